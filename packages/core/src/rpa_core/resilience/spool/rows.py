"""Rows of a spool as entries and back, each with a checksum that is looked at whenever its body is read."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from typing import Any

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
_HEADS = """WITH RECURSIVE each(stream) AS (
    SELECT min(stream) FROM entry WHERE kind = :kind
    UNION ALL
    SELECT (SELECT min(stream) FROM entry WHERE kind = :kind AND stream > each.stream) FROM each
    WHERE each.stream IS NOT NULL
)
SELECT (SELECT min(seq) FROM entry WHERE kind = :kind AND stream = each.stream) AS seq, stream
FROM each WHERE stream IS NOT NULL ORDER BY seq"""

Row = tuple[Entry, bool]  # and whether it is what was put


def size_of(body: bytes) -> int:
    """What an entry takes on the disk, about, in bytes: long bodies fill whole pages."""
    whole = len(body) if len(body) < _PAGE_BYTES // 2 else -(-len(body) // _PAGE_BYTES) * _PAGE_BYTES
    return OVERHEAD_BYTES + whole


def checksum(new: New, put_at: float) -> bytes:
    """Of all that a deliverer gets to see, and of its place: a body under another id is damage too."""
    names = [text.encode() for text in (new.id, new.kind, new.stream)]
    head = struct.pack("<3I?d", *map(len, names), new.keep, put_at)
    return hashlib.blake2b(b"".join((head, *names, new.body)), digest_size=16).digest()


def is_known(db: sqlite3.Connection, id_: str) -> bool:
    """Whether it waits or is dead."""
    return bool(db.execute(_KNOWN, {"id": id_}).fetchone()[0])


def insert(db: sqlite3.Connection, new: New, put_at: float) -> None:
    """At the end of its stream."""
    fields = (new.id, new.kind, new.stream, new.keep, put_at, size_of(new.body), checksum(new, put_at))
    seq = db.execute(_INSERT, fields).lastrowid
    db.execute("INSERT INTO body VALUES (?, ?)", (seq, new.body))


def delete(db: sqlite3.Connection, seq: int) -> None:
    """One that waits, and its body."""
    db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
    db.execute("DELETE FROM body WHERE seq = ?", (seq,))


def head_seqs(db: sqlite3.Connection, kind: str) -> list[tuple[int, str]]:
    """(seq, stream) of the head of every stream, oldest first; looks once into the index for each stream."""
    return db.execute(_HEADS, {"kind": kind}).fetchall()


def by_seq(db: sqlite3.Connection, seq: int) -> Row | None:
    """One that waits."""
    row = db.execute(f"{_ENTRY} WHERE entry.seq = ?", (seq,)).fetchone()
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
