"""What a worker process writes: JSON log lines, and plain text where it explains why it ended."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TAIL = 20
_MOST_CHARS = 2000
_STOPPED = "worker.stopped"
_OUTCOMES = "records."


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a level of `logging` and what to show."""

    level: int
    text: str


class Said:
    """Takes lines one by one and remembers what the end of the run needs: the counts, and the cause of a failure."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._plain: deque[str] = deque(maxlen=_TAIL)
        self._error = ""

    def hear(self, text: str) -> Line | None:
        """The line, or None if it is empty."""
        text = text.rstrip()
        if not text:
            return None
        fields = _fields(text)
        if fields is None:
            self._plain.append(text)
            return Line(level=logging.WARNING, text=text)
        level = logging.getLevelNamesMapping().get(str(fields.get("log.level", "info")).upper(), logging.INFO)
        message = str(fields.get("message", ""))
        if level >= logging.ERROR:
            self._error = message
        if fields.get("event.action") == _STOPPED:  # one for each life: a changed setting begins another one
            self.counts = {name: number + self.counts.get(name, 0) for name, number in _counts(fields).items()}
        trace = fields.get("error.stack_trace")
        return Line(level=level, text=f"{message}\n{trace}" if trace else message)

    def cause(self) -> str:
        """Why it failed, in its own words: what it wrote for people at its end, or its last error."""
        return ("\n".join(self._plain) or self._error or "it said nothing")[-_MOST_CHARS:]


def _fields(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "message" in fields else None


def _counts(fields: Mapping[str, Any]) -> dict[str, int]:
    """`records.done`, `records.set_aside`, ... of the line with which a worker ends."""
    return {
        name.removeprefix(_OUTCOMES): value
        for name, value in fields.items()
        if name.startswith(_OUTCOMES) and isinstance(value, int)
    }
