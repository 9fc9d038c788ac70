"""Rows of a spool as entries and back, each with a checksum that is looked at whenever its body is read."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Collection
from typing import Any, Literal

from rpa_core.resilience.spool.model import DeadEntry, Entry, New

OVERHEAD_BYTES = 400  # of a row, its index entries and its share of pages, as measured on small entries
_PAGE_BYTES = 4096
DAMAGED = "damaged on the disk: it is not what was put"

_INSERT = """INSERT INTO entry (id, kind, stream, keep, put_at, size, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_KNOWN = "SELECT EXISTS (SELECT 1 FROM entry WHERE id = :id) OR EXISTS (SELECT 1 FROM dead WHERE id = :id)"
_ENTRY = """SELECT entry.seq, id, kind, stream, body, keep, put_at, tries, checksum
FROM entry LEFT JOIN body ON body.seq = entry.seq """
_DEAD = """SELECT dead.seq, id, kind, stream, body, keep, put_at, tries, checksum, reason, died_at
FROM dead LEFT JOIN body ON body.seq = dead.seq """
_BY_SEQ = {"entry": _ENTRY, "dead": _ENTRY.replace("entry", "dead")}
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

Row = tuple[Entry, bool]  # and whether it is what was put


def size_of(body_bytes: int) -> int:
    """What an entry takes on the disk, about, in bytes: long bodies fill whole pages."""
    whole = body_bytes if body_bytes < _PAGE_BYTES // 2 else -(-body_bytes // _PAGE_BYTES) * _PAGE_BYTES
    return OVERHEAD_BYTES + whole


def checksum(new: New, put_at: float) -> bytes:
    """Of all that a deliverer gets to see, and of its place: a body under another id is damage too."""
    names = [text.encode(errors="replace") for text in (new.id, new.kind, new.stream)]
    head = struct.pack("<3I?d", *map(len, names), new.keep, put_at)
    return hashlib.blake2b(b"".join((head, *names, new.body)), digest_size=16).digest()


def is_known(db: sqlite3.Connection, id_: str) -> bool:
    """Whether it waits or is dead."""
    return bool(db.execute(_KNOWN, {"id": id_}).fetchone()[0])


def insert(db: sqlite3.Connection, new: New, put_at: float) -> int:
    """At the end of its stream; its place in the order of all."""
    fields = (new.id, new.kind, new.stream, new.keep, put_at, size_of(len(new.body)), checksum(new, put_at))
    seq = db.execute(_INSERT, fields).lastrowid
    assert seq is not None
    db.execute("INSERT INTO body VALUES (?, ?)", (seq, new.body))
    return seq


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


def by_seq(db: sqlite3.Connection, seq: int, table: Literal["entry", "dead"] = "entry") -> Row | None:
    """One that waits, or is dead."""
    row = db.execute(f"{_BY_SEQ[table]} WHERE {table}.seq = ?", (seq,)).fetchone()
    return _row(row) if row else None


def in_order(db: sqlite3.Connection, kind: str, stream: str | None, limit: int) -> list[Row]:
    """Those that wait, of one stream or all; `limit` -1 for all."""
    found = db.execute(
        f"{_ENTRY} WHERE kind = ? AND (? IS NULL OR stream = ?) ORDER BY entry.seq LIMIT ?",
        (kind, stream, stream, limit),
    )
    return [_row(row) for row in found]


def dead_rows(db: sqlite3.Connection, kind: str | None) -> list[DeadEntry]:
    """Dead letters, oldest first, with what is left of their bodies."""
    found = db.execute(f"{_DEAD} WHERE ? IS NULL OR kind = ? ORDER BY dead.seq", (kind, kind))
    return [DeadEntry(_row(row[:9])[0], row[9], row[10]) for row in found]


def dead_row(db: sqlite3.Connection, id_: str) -> Row | None:
    """One dead letter."""
    row = db.execute(f"{_DEAD} WHERE id = ?", (id_,)).fetchone()
    return _row(row[:9]) if row else None


def _row(row: tuple[Any, ...]) -> Row:
    seq, id_, kind, stream, body, keep, put_at, tries, expected = row
    entry = Entry(seq, id_, kind, stream, bytes(body or b""), bool(keep), put_at, tries)
    found = checksum(New(id_, kind, stream, entry.body, entry.keep), put_at)
    return entry, body is not None and found == expected
