"""Loading files into a flow: one transaction for each file, in constant memory, safe to repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import psycopg

from rpa_core.errors import InputError
from rpa_core.formats import BadLine, Format, Item, Row, decompressed, read
from rpa_core.store.intake import BLOCK, NewRecord, Rejected, check_flow_name, enqueue, set_aside

_PIECE_BYTES = 256 * 1024
_SHOWN = 20
OnBadLine = Literal["set-aside", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of one file's lines."""

    source: str
    accepted: int
    duplicates: int
    set_aside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How to read and key a file.

    key_field      the payload field that holds each record's key; None makes keys of source, line and content, so
                   that the same file loaded again changes nothing.
    on_bad_line    `set-aside` keeps unreadable lines as dead letters; `reject` loads nothing if there is one.
    check_columns  given a CSV file's columns, says what is wrong with them; any answer rejects the file.
    """

    flow: str
    form: Format
    key_field: str | None = None
    on_bad_line: OnBadLine = "set-aside"
    encoding: str = "utf-8"
    delimiter: str | None = None
    max_line_bytes: int = 1024 * 1024
    chunk_size: int = BLOCK
    check_columns: Callable[[Sequence[str]], Sequence[str]] | None = None


def load(
    connection: psycopg.Connection[Any],
    plan: LoadPlan,
    stream: BinaryIO,
    source: str,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> Loaded:
    """Load one file or nothing of it. Raises InputError, naming the file, for what concerns the whole of it.

    `on_bytes` is told of every piece read, for a progress display.
    """
    check_flow_name(plan.flow)
    try:
        return _load(connection, plan, stream, source, on_bytes)
    except InputError as error:
        name = Path(source).name
        raise error if str(error).startswith(f"{name}: ") else InputError(f"{name}: {error}") from error


def _load(
    connection: psycopg.Connection[Any],
    plan: LoadPlan,
    stream: BinaryIO,
    source: str,
    on_bytes: Callable[[int], object],
) -> Loaded:
    connection.execute("SELECT rpa.flow_id(%s)", (plan.flow,))  # a new flow's row is not locked for the whole load
    with connection.transaction():
        lines = _Lines(connection, plan, Path(source).name)
        chunks = decompressed(_pieces(stream, on_bytes))
        items = read(
            chunks,
            plan.form,
            key_field=plan.key_field,
            max_line_bytes=plan.max_line_bytes,
            encoding=plan.encoding,
            delimiter=plan.delimiter,
        )
        counts = enqueue(connection, plan.flow, lines.records(items), chunk_size=plan.chunk_size)
        lines.finish()
    return Loaded(
        source=source, accepted=counts.accepted, duplicates=counts.duplicates, set_aside=lines.set_aside_count
    )


def _pieces(stream: BinaryIO, on_bytes: Callable[[int], object]) -> Iterator[bytes]:
    while piece := stream.read(_PIECE_BYTES):
        on_bytes(len(piece))
        yield piece


class _Lines:
    """Parts readable lines from unreadable ones; the latter are written in blocks between two COPYs."""

    def __init__(self, connection: psycopg.Connection[Any], plan: LoadPlan, name: str) -> None:
        self._connection = connection
        self._plan = plan
        self._name = name
        self._bad: list[Rejected] = []
        self._shown: list[str] = []
        self._bad_count = 0
        self.set_aside_count = 0

    def records(self, items: Iterable[Item]) -> Iterator[NewRecord]:
        checked = False
        for item in items:
            if isinstance(item, BadLine):
                self._take_bad(item)
                continue
            if not checked:
                self._check_columns(item)
                checked = True
            yield NewRecord(item.payload, item.key or self._key(item.line, item.payload))

    def finish(self) -> None:
        """Write the rest; raises InputError if bad lines were met and the plan is to reject."""
        self._flush()
        if self._bad_count and self._plan.on_bad_line == "reject":
            more = (
                f"\n  ... and {self._bad_count - len(self._shown)} more" if self._bad_count > len(self._shown) else ""
            )
            raise InputError(
                f"{self._name}: {self._bad_count} lines cannot be read, nothing was loaded:\n  "
                + "\n  ".join(self._shown)
                + more
            )

    def _take_bad(self, item: BadLine) -> None:
        self._bad_count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"line {item.line}: {item.reason}: {item.excerpt}")
        if self._plan.on_bad_line == "reject":
            return
        payload = orjson.dumps({"source": self._name, "line": item.line, "excerpt": item.excerpt})
        key = self._key(item.line, payload)
        self._bad.append(Rejected(payload, key, (f"{self._name} line {item.line}: {item.reason}",)))
        if len(self._bad) >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._bad:
            self.set_aside_count += set_aside(self._connection, self._plan.flow, self._bad)
            self._bad.clear()

    def _key(self, line: int, payload: bytes) -> str:
        return f"{self._name}:{line}:{hashlib.blake2b(payload, digest_size=6).hexdigest()}"

    def _check_columns(self, first: Row) -> None:
        check = self._plan.check_columns
        if check is None or self._plan.form not in (Format.CSV, Format.TSV):
            return
        problems = check(list(orjson.loads(first.payload)))
        if problems:
            raise InputError(f"{self._name}: nothing was loaded:\n  " + "\n  ".join(problems))
