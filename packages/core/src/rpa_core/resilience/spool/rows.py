"""Rows of a spool as entries and back, each with a checksum that is looked at whenever its body is read."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Collection, Iterator
from typing import Any, Literal

from rpa_core.resilience.spool.model import DeadEntry, Entry, New, Pieces

OVERHEAD_BYTES = 400  # of a row, its index entries and its share of pages, as measured on small entries
_PAGE_BYTES = 4096
DAMAGED = "damaged on the disk: it is not what was put"

_INSERT = """INSERT INTO entry (id, kind, stream, keep, put_at, size, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_KNOWN = "SELECT EXISTS (SELECT 1 FROM entry WHERE id = :id) OR EXISTS (SELECT 1 FROM dead WHERE id = :id)"
_PIECE_BYTES = 64 * 1024
_BEGINNING_BYTES = 256 * 1024
_SHOWN_BYTES = 1024 * 1024
_ENTRY = """SELECT entry.seq, id, kind, stream, keep, put_at, tries, checksum, begun, length(body)
FROM entry LEFT JOIN body ON body.seq = entry.seq """
_DEAD = """SELECT dead.seq, id, kind, stream, keep, put_at, tries, checksum, 0, length(body), reason, died_at
FROM dead LEFT JOIN body ON body.seq = dead.seq """
_HEADS = """WITH RECURSIVE each(stream) AS (
    SELECT min(stream) FROM entry WHERE kind = :kind
    UNION ALL
    SELECT (SELECT min(stream) FROM entry WHERE kind = :kind AND stream > each.stream) FROM each
    WHERE each.stream IS NOT NULL
)
SELECT (SELECT min(seq) FROM entry WHERE kind = :kind AND stream = each.stream) AS seq, stream
FROM each WHERE stream IS NOT NULL ORDER BY seq"""

# The first rows of a kind, merged from its two halves in the index by age.
_FIRST = """SELECT seq, stream FROM entry WHERE kind = :kind AND keep = 0
UNION ALL SELECT seq, stream FROM entry WHERE kind = :kind AND keep = 1 ORDER BY seq LIMIT :limit"""
_FIRST_ROWS = 400

Row = tuple[Entry, bool]  # and whether it is what was put; of a body in pieces, whether there is one


class StoredBody:
    """A body in a file, read in pieces. Raises sqlite3.Error where the file cannot be read."""

    def __init__(self, db: sqlite3.Connection, seq: int, size_bytes: int) -> None:
        self._db = db
        self._seq = seq
        self.size_bytes = size_bytes

    def __iter__(self) -> Iterator[bytes]:
        if not self.size_bytes:
            return
        with self._db.blobopen("body", "body", self._seq, readonly=True) as blob:
            while piece := blob.read(_PIECE_BYTES):
                yield piece

    def beginning(self, most_bytes: int) -> bytes:
        """At most so many bytes of it."""
        if not self.size_bytes:
            return b""
        with self._db.blobopen("body", "body", self._seq, readonly=True) as blob:
            return blob.read(most_bytes)


def size_of(body_bytes: int) -> int:
    """What an entry takes on the disk, about, in bytes: long bodies fill whole pages."""
    whole = body_bytes if body_bytes < _PAGE_BYTES // 2 else -(-body_bytes // _PAGE_BYTES) * _PAGE_BYTES
    return OVERHEAD_BYTES + whole


class Checksum:
    """Of all that a deliverer gets to see, and of its place: a body under another id is damage too."""

    def __init__(self, id_: str, kind: str, stream: str, *, keep: bool, put_at: float) -> None:
        names = [text.encode(errors="replace") for text in (id_, kind, stream)]
        head = struct.pack("<3I?d", *map(len, names), keep, put_at)
        self._digest = hashlib.blake2b(b"".join((head, *names)), digest_size=16)

    def update(self, piece: bytes) -> None:
        """The next bytes of the body."""
        self._digest.update(piece)

    def digest(self) -> bytes:
        """Of all so far."""
        return self._digest.digest()


def checksum(new: New, put_at: float) -> bytes:
    """Of a whole entry."""
    digest = Checksum(new.id, new.kind, new.stream, keep=new.keep, put_at=put_at)
    for piece in (new.body,) if isinstance(new.body, bytes) else new.body:
        digest.update(piece)
    return digest.digest()


def is_known(db: sqlite3.Connection, id_: str) -> bool:
    """Whether it waits or is dead."""
    return bool(db.execute(_KNOWN, {"id": id_}).fetchone()[0])


def insert(db: sqlite3.Connection, new: New, put_at: float) -> int:
    """At the end of its stream; its place in the order of all."""
    size_bytes = length_of(new.body)
    fields = (new.id, new.kind, new.stream, new.keep, put_at, size_of(size_bytes), checksum(new, put_at))
    seq = db.execute(_INSERT, fields).lastrowid
    assert seq is not None
    if isinstance(new.body, bytes):
        db.execute("INSERT INTO body VALUES (?, ?)", (seq, new.body))
        return seq
    db.execute("INSERT INTO body VALUES (?, zeroblob(?))", (seq, size_bytes))
    with db.blobopen("body", "body", seq) as blob:
        for piece in new.body:
            blob.write(piece)
    return seq


def length_of(body: bytes | Pieces) -> int:
    """In bytes."""
    return len(body) if isinstance(body, bytes) else body.size_bytes


def delete(db: sqlite3.Connection, seq: int) -> None:
    """One that waits, and its body."""
    db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
    db.execute("DELETE FROM body WHERE seq = ?", (seq,))


def heads(db: sqlite3.Connection, kind: str, limit: int, without: Collection[str]) -> list[int]:
    """The oldest of each stream but of those `without`, oldest first.

    Usually they are among the first rows. If not, few streams hold many rows, or many streams are left out: then the
    index is asked once for each stream.
    """
    found: dict[str, int] = {}
    rows = db.execute(_FIRST, {"kind": kind, "limit": _FIRST_ROWS}).fetchall()
    for seq, stream in rows:
        if stream not in without and stream not in found:
            found[stream] = seq
            if len(found) == limit:
                break
    if len(found) == limit or len(rows) < _FIRST_ROWS:
        return list(found.values())
    every = db.execute(_HEADS, {"kind": kind}).fetchall()
    return [seq for seq, stream in every if stream not in without][:limit]


def waits(db: sqlite3.Connection, kind: str, stream: str) -> bool:
    """Whether anything of the stream does."""
    return (
        db.execute("SELECT 1 FROM entry WHERE kind = ? AND stream = ? LIMIT 1", (kind, stream)).fetchone() is not None
    )


def by_seq(db: sqlite3.Connection, seq: int, *, streamed: bool = False) -> Row | None:
    """One that waits; if `streamed` with the beginning of its body alone."""
    row = db.execute(f"{_ENTRY} WHERE entry.seq = ?", (seq,)).fetchone()
    return _row(db, row, streamed=streamed) if row else None


def stored(db: sqlite3.Connection, entry: Entry) -> tuple[StoredBody, bytes] | None:
    """The body of one that waits, to be read in pieces, and the checksum of what was put."""
    row = db.execute(f"{_ENTRY} WHERE entry.seq = ?", (entry.seq,)).fetchone()
    return (StoredBody(db, entry.seq, row[9]), row[7]) if row and row[9] is not None else None


def in_order(
    db: sqlite3.Connection, kind: str, stream: str | None, limit: int, *, after: int = 0, streamed: bool = False
) -> list[Row]:
    """Those that wait, of one stream or all, behind the one at `after`; `limit` -1 for all."""
    found = db.execute(
        f"{_ENTRY} WHERE kind = ? AND (? IS NULL OR stream = ?) AND entry.seq > ? ORDER BY entry.seq LIMIT ?",
        (kind, stream, stream, after, limit),
    )
    return [_row(db, row, streamed=streamed) for row in found.fetchall()]


def dead_rows(db: sqlite3.Connection, kind: str | None) -> list[DeadEntry]:
    """Dead letters, oldest first, with what is left of their bodies, at most 1 MiB each."""
    found = db.execute(f"{_DEAD} WHERE ? IS NULL OR kind = ? ORDER BY dead.seq", (kind, kind)).fetchall()
    return [
        DeadEntry(_entry(row, StoredBody(db, row[0], row[9] or 0).beginning(_SHOWN_BYTES)), row[10], row[11])
        for row in found
    ]


def dead_new(db: sqlite3.Connection, id_: str) -> tuple[New, bool] | None:
    """A dead letter as it was put, its body in pieces, and whether it is sound."""
    row = db.execute(f"{_DEAD} WHERE id = ?", (id_,)).fetchone()
    if row is None:
        return None
    seq, id_, kind, stream, keep, put_at, _, expected, _, size_bytes, *_ = row
    new = New(id_, kind, stream, StoredBody(db, seq, size_bytes or 0), bool(keep))
    return new, size_bytes is not None and checksum(new, put_at) == expected


def old_new(db: sqlite3.Connection, table: Literal["entry", "dead"], seq: int) -> tuple[New, float] | None:
    """What waits or is dead in a file of whatever version, as it was put, and when; None where it is not sound."""
    statement = "SELECT id, kind, stream, keep, put_at, checksum, length(body)"
    row = db.execute(f"{statement} FROM {table} t JOIN body ON body.seq = t.seq WHERE t.seq = ?", (seq,)).fetchone()
    if row is None:
        return None
    id_, kind, stream, keep, put_at, expected, size_bytes = row
    new = New(id_, kind, stream, StoredBody(db, seq, size_bytes), bool(keep))
    return (new, put_at) if checksum(new, put_at) == expected else None


def _row(db: sqlite3.Connection, row: tuple[Any, ...], *, streamed: bool) -> Row:
    seq, _, _, _, _, _, _, expected, _, size_bytes = row
    body = StoredBody(db, seq, size_bytes or 0)
    if streamed:
        return _entry(row, body.beginning(_BEGINNING_BYTES)), size_bytes is not None
    entry = _entry(row, body.beginning(body.size_bytes))
    found = checksum(New(entry.id, entry.kind, entry.stream, entry.body, entry.keep), entry.put_at)
    return entry, size_bytes is not None and found == expected


def _entry(row: tuple[Any, ...], body: bytes) -> Entry:
    seq, id_, kind, stream, keep, put_at, tries, _, begun, *_ = row
    return Entry(seq, id_, kind, stream, body, bool(keep), put_at, tries, begun)
