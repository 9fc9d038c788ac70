"""Which file is this? Keys for rows that have none of their own, so that a file is loaded once and no two are mixed up.

A row's key is `name:line:digest`. The name is the file's, without its folder. By default the digest is of the whole
file's records, found in a first pass: the same content under the same name is the same file wherever it lies, and
anything else is another file. While the first pass runs, the digest of every beginning is looked up, because its last
row would have that key: so a file that has grown at its end is recognised, and only what is new of it is loaded.

Where the caller names the source, there is one pass and the digest is of the row alone: a row is known by name, line
and content. These are also the keys that versions before this one gave. A file whose first rows are all known by such
keys is taken to be that source; one of which only some are is refused: nothing says whether it is another file. So is
one that has the rows of an earlier file some lines of which could not be read, because it may be that one, corrected.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import psycopg

from rpa_core.errors import InputError, UsageError
from rpa_core.formats import BadLine, Item
from rpa_core.observability.printable import printable
from rpa_core.store.intake import BLOCK, known_keys, loaded_before

MAX_NAME_CHARS = 200
_COMPARED = 200
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file as its rows' keys know it.

    digest  of the whole content; None where each row's key has the digest of that row.
    known   how many items at its beginning an earlier load of the same file has brought.
    items   how many there are; None where nothing has counted them.
    """

    name: str
    digest: str | None = None
    known: int = 0
    items: int | None = None

    def key(self, line: int, payload: bytes) -> str:
        """The key of the row, or of the bad line, that begins on `line`."""
        return f"{self.name}:{line}:{self.digest or hashlib.blake2b(payload, digest_size=6).hexdigest()}"


class Content:
    """The running digest of what a file's lines are, whatever they are packed or encoded in."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=12)
        self.items = 0

    def add(self, item: Item) -> str:
        """The digest up to and with this item."""
        text = b"\n%s" % item.payload if not isinstance(item, BadLine) else f"\0{item.excerpt}".encode()
        self._digest.update(b"%d:%d:%s" % (item.line, len(text), text))
        self.items += 1
        return self._digest.hexdigest()


def name_of(path: str) -> str:
    """A file's name without its folder, as text that can be stored and shown."""
    return printable(Path(path).name)[:MAX_NAME_CHARS]


def check_name(name: str) -> str:
    """A name that the caller gives to a source. Raises UsageError for what cannot be one."""
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"the source is {printable(name)!r}; it must be 1 to {MAX_NAME_CHARS} printable characters")
    return name


def unreadable(name: str, item: BadLine) -> bytes:
    """What is kept of a bad line, as a payload."""
    return orjson.dumps({"source": name, "line": item.line, "excerpt": item.excerpt})


def identify(connection: psycopg.Connection[Any], flow: str, name: str, items: Iterator[Item]) -> Source:
    """Read a file's items to their end, and find out which file it is. Raises InputError where that is not clear."""
    content = Content()
    by_row = Source(name=name)
    known = last = 0
    digest = ""
    beginning: list[str] = []  # keys by row of the first rows
    rows: dict[int, str] = {}  # digests of the first rows by their lines
    ends: list[str] = []  # the key of each item, were it the last
    for item in items:
        digest, last = content.add(item), item.line
        ends.append(f"{name}:{item.line}:{digest}")
        if not isinstance(item, BadLine) and len(beginning) < BLOCK:
            beginning.append(by_row.key(item.line, item.payload))
            if len(rows) < _COMPARED:
                rows[item.line] = hashlib.md5(item.payload, usedforsecurity=False).hexdigest()
        if len(ends) == BLOCK:
            known = _last_known(connection, flow, ends, content.items) or known
            ends.clear()
    known = _last_known(connection, flow, ends, content.items) or known
    if not known and beginning and (found := len(known_keys(connection, flow, beginning))):
        if found == len(set(beginning)):
            return Source(name=name, items=content.items)
        raise InputError(
            f"{found} of its first {len(beginning)} rows were loaded before under the source {name!r}, the others were "
            f"not. If it is that file, corrected or grown, load it with --source {name!r}, and what is new of it is "
            "loaded; if it is another file, give it a --source of its own"
        )
    if not known and rows:
        _check_corrected(connection, flow, name, rows, last)
    return Source(name=name, digest=digest, known=known, items=content.items)


def _check_corrected(
    connection: psycopg.Connection[Any], flow: str, name: str, rows: dict[int, str], last: int
) -> None:
    """Refuse what seems to be an earlier file with its unreadable lines corrected: its other rows would come twice."""
    equal: dict[str, bool] = {}
    for key, md5 in loaded_before(connection, flow, name, list(rows), last):
        line, file = key.rsplit(":", 2)[1:]
        equal[file] = equal.get(file, True) and rows[int(line)] == md5
    if any(equal.values()):
        raise InputError(
            "it begins with the rows of a file of this name that was loaded before, some lines of which could not be "
            "read. If it is that file, corrected, load the corrected lines alone, from a file of their own, or use "
            "`rpa records correct`; if it is another file, give it a --source of its own"
        )


def _last_known(connection: psycopg.Connection[Any], flow: str, ends: list[str], items: int) -> int:
    """How many of the items so far are there with the last of `ends` that is known; 0 where none is."""
    found = known_keys(connection, flow, ends)
    at = max((number for number, key in enumerate(ends, 1) if key in found), default=0)
    return items - len(ends) + at if at else 0


class TwiceRead:
    """A stream to be read a second time: from its beginning, or from a copy in a temporary file where it has none."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._stream = stream
        self._path = path
        self._start = stream.tell() if stream.seekable() else None
        self._copy: BinaryIO | None = None

    def first(self, on_bytes: Callable[[int], object]) -> Iterator[bytes]:
        """Its pieces. `on_bytes` is called with the size of each where the second time only reads a copy."""
        if self._start is not None:
            yield from pieces(self._stream, self._path)
            return
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does
        for piece in pieces(self._stream, self._path, on_bytes):
            try:
                self._copy.write(piece)
            except OSError as error:
                why = f"{error.strerror}, for a copy of the stream {self._path}; --source NAME loads it without one"
                raise OSError(error.errno, why, tempfile.gettempdir()) from error
            yield piece

    def again(self, on_bytes: Callable[[int], object]) -> Iterator[bytes]:
        """The same pieces."""
        if self._copy is None:
            self._stream.seek(self._start or 0)
            yield from pieces(self._stream, self._path, on_bytes)
        else:
            self._copy.seek(0)
            yield from pieces(self._copy, tempfile.gettempdir())

    def close(self) -> None:
        """Remove the copy."""
        if self._copy is not None:
            self._copy.close()


def pieces(stream: BinaryIO, path: str, on_bytes: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
    """A stream in pieces of 256 KiB; raises OSError, naming the path, where it cannot be read."""
    while True:
        try:
            piece = stream.read(_PIECE_BYTES)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; nothing of it was loaded", path) from error
        if not piece:
            return
        on_bytes(len(piece))
        yield piece
