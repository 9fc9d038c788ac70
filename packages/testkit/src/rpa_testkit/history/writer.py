"""Appending to a history from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from rpa_testkit.history.entries import Header, Kind


class HistoryWriter:
    """Writes a run's `history.jsonl`. Every line reaches the kernel before `add` returns: a killed tester leaves it."""

    def __init__(self, path: Path, header: Header, *, began: float | None = None) -> None:
        """`began` is the `time.monotonic()` at which t is 0."""
        self.began = time.monotonic() if began is None else began
        self._lock = threading.Lock()
        self._seq = 0
        self._file = path.open("wb", buffering=0)
        self._file.write(orjson.dumps(asdict(header), option=orjson.OPT_APPEND_NEWLINE))

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def add(
        self, actor: str, kind: Kind, op: str, key: Any = None, value: Any = None, *, t: float | None = None
    ) -> None:
        """Append one line, at `t` or now."""
        self.extend(actor, kind, op, [(key, value)], t=t)

    def extend(
        self, actor: str, kind: Kind, op: str, items: Iterable[tuple[Any, Any]], *, t: float | None = None
    ) -> None:
        """Append a line for each (key, value)."""
        with self._lock:
            when = round(self.now() if t is None else t, 6)
            lines = []
            for key, value in items:
                self._seq += 1
                lines.append(
                    orjson.dumps(
                        (self._seq, when, actor, kind, op, key, value),
                        default=tuple,  # named tuples
                        option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS,
                    )
                )
            self._file.write(b"".join(lines))

    def close(self) -> None:
        """No more lines."""
        self._file.close()
