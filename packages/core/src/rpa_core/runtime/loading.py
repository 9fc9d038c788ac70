"""Loading files into a flow: one transaction for each file, in constant memory, safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import psycopg

from rpa_core.errors import InputError
from rpa_core.formats import BadLine, Format, Item, Row, decompressed, read
from rpa_core.runtime.sources import Content, Source, TwiceRead, check_name, identify, name_of, pieces, unreadable
from rpa_core.store.intake import BLOCK, NewRecord, Rejected, check_flow_name, enqueue, set_aside

_SHOWN = 20
_HELD_BYTES = 256 * 1024
OnBadLine = Literal["set-aside", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of one file's lines. `unreadable` counts all bad lines, `set_aside` those that are kept as of now."""

    source: str
    accepted: int
    duplicates: int
    set_aside: int
    unreadable: int

    @property
    def nothing_readable(self) -> bool:
        """Whether there were lines, and not one of them is a record."""
        return self.unreadable > 0 and not self.accepted and not self.duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How to read and key a file.

    key_field      the payload field that holds each record's key; None makes keys of the file's name, the line, and
                   its content, so that the same file loaded again changes nothing: see `runtime.sources`.
    source         a name instead of the file's: rows of the same name, line and content are loaded once, whatever else
                   is in the file.
    header         whether a CSV file's first line names its columns.
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
    source: str | None = None
    header: bool = True


def load(
    connection: psycopg.Connection[Any],
    plan: LoadPlan,
    stream: BinaryIO,
    source: str,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> Loaded:
    """Load one file or nothing of it. Raises InputError, naming the file, for what concerns the whole of it.

    A file without keys is read twice; a stream that cannot be is copied to a temporary file meanwhile. `on_bytes` is
    called with the size of every piece that is read, for a progress display. Raises OSError where it cannot be read.
    """
    check_flow_name(plan.flow)
    name = name_of(source) if plan.source is None else check_name(plan.source)
    try:
        if plan.key_field is not None or plan.source is not None:
            return _load(connection, plan, Source(name=name), pieces(stream, source, on_bytes), source)
        with closing(TwiceRead(stream, source)) as twice:
            found = identify(connection, plan.flow, name, _items(plan, twice.first(on_bytes)))
            return _load(connection, plan, found, twice.again(on_bytes), source)
    except InputError as error:
        raise error if str(error).startswith(f"{name}: ") else InputError(f"{name}: {error}") from error


def _items(plan: LoadPlan, chunks: Iterable[bytes]) -> Iterator[Item]:
    return read(
        decompressed(chunks, max_ratio=None),
        plan.form,
        key_field=plan.key_field,
        max_line_bytes=plan.max_line_bytes,
        encoding=plan.encoding,
        delimiter=plan.delimiter,
        header=plan.header,
    )


def _load(
    connection: psycopg.Connection[Any], plan: LoadPlan, source: Source, chunks: Iterator[bytes], path: str
) -> Loaded:
    connection.execute("SELECT rpa.flow_id(%s)", (plan.flow,))  # a new flow's row is not locked for the whole load
    with connection.transaction():
        lines = _Lines(connection, plan, source)
        counts = enqueue(connection, plan.flow, lines.records(_items(plan, chunks)), chunk_size=plan.chunk_size)
        lines.finish()
    return Loaded(
        source=Path(path).name,
        accepted=counts.accepted,
        duplicates=counts.duplicates + lines.known,
        set_aside=lines.set_aside_count,
        unreadable=lines.bad_count,
    )


class _Lines:
    """Parts readable lines from unreadable ones; the latter are written in blocks between two COPYs."""

    def __init__(self, connection: psycopg.Connection[Any], plan: LoadPlan, source: Source) -> None:
        self._write = partial(set_aside, connection, plan.flow)
        self._plan = plan
        self._source = source
        self._bad: list[Rejected] = []
        self._bad_bytes = 0
        self._shown: list[str] = []
        self.known = 0
        self.bad_count = 0
        self.set_aside_count = 0

    def records(self, items: Iterable[Item]) -> Iterator[NewRecord]:
        """What is to be enqueued. Raises InputError at the end where it is not what the first pass has read."""
        source, content = self._source, Content()
        checked = False
        digest = ""
        for number, item in enumerate(items):
            if source.items is not None:
                digest = content.add(item)
            if isinstance(item, BadLine):
                self._take_bad(item, keep=number >= source.known)
                continue
            if not checked:
                self._check_columns(item)
                checked = True
            if number < source.known:
                self.known += 1
            else:
                yield NewRecord(item.payload, item.key or source.key(item.line, item.payload))
        if source.items not in (None, content.items) or (source.digest or digest) != digest:
            raise InputError("the file changed while it was read; nothing was loaded")

    def finish(self) -> None:
        """Write the rest; raises InputError if bad lines were met and the plan is to reject."""
        self._flush()
        if self.bad_count and self._plan.on_bad_line == "reject":
            more = f"\n  ... and {self.bad_count - len(self._shown)} more" if self.bad_count > len(self._shown) else ""
            raise InputError(
                f"{self._source.name}: {self.bad_count} lines cannot be read, nothing was loaded:\n  "
                + "\n  ".join(self._shown)
                + more
            )

    def _take_bad(self, item: BadLine, *, keep: bool) -> None:
        self.bad_count += 1
        if self._plan.on_bad_line == "reject":
            if len(self._shown) < _SHOWN:
                self._shown.append(f"line {item.line}: {item.reason}: {item.excerpt}")
            return
        if not keep:
            return
        name = self._source.name
        payload = unreadable(name, item)
        reason = f"{name} line {item.line}: {item.reason}"
        self._bad.append(Rejected(payload, self._source.key(item.line, payload), (reason,)))
        self._bad_bytes += len(payload) + len(reason)
        if len(self._bad) >= BLOCK or self._bad_bytes >= _HELD_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._bad:
            self.set_aside_count += self._write(self._bad)
            self._bad.clear()
            self._bad_bytes = 0

    def _check_columns(self, first: Row) -> None:
        check = self._plan.check_columns
        if check is None or self._plan.form not in (Format.CSV, Format.TSV):
            return
        problems = check(list(orjson.loads(first.payload)))
        if problems:
            raise InputError(f"{self._source.name}: nothing was loaded:\n  " + "\n  ".join(problems))
