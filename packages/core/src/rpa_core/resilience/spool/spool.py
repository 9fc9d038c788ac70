"""One spool: a SQLite file, or the same in memory."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from rpa_core.resilience.spool.model import DeadEntry, Entry, New, Share, SpoolDepth, SpoolFull

_COLUMNS = "seq, id, kind, stream, body, keep, put_at, tries"
_OVERHEAD_BYTES = 200  # of a row, its index entries and its share of pages, as measured on small entries


class Spool:
    """A queue of entries by kind and stream. Every method may be called from any thread.

    `path` None keeps it in memory. `shares` says what each kind may take of `max_bytes`; a kind without one is
    refused. Raises SpoolFull where there is no room, on the disk or within the limits.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int,
        shares: Mapping[str, Share],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._shares = dict(shares)
        self._now = now
        self._lock = threading.RLock()
        self._dropped: dict[str, int] = {}
        self._put = threading.Event()
        self._db = sqlite3.connect(
            str(path) if path is not None else ":memory:", isolation_level=None, check_same_thread=False
        )
        if path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(resources.files(__package__).joinpath("spool.sql").read_text())

    @property
    def durable(self) -> bool:
        """Whether what is put outlives the process."""
        return self.path is not None

    def put(self, *entries: New) -> None:
        """Take them, all or none; returns when they are on the disk. Raises SpoolFull."""
        with self._transaction():
            for entry in entries:
                self._make_room(entry)
                self._db.execute(
                    "INSERT INTO entry (id, kind, stream, body, checksum, keep, put_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (id) DO NOTHING",
                    (entry.id, entry.kind, entry.stream, entry.body, _checksum(entry), entry.keep, self._now()),
                )

    def heads(self, kind: str, limit: int = 100) -> list[Entry]:
        """The oldest entry of each stream of `kind`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE seq IN"  # noqa: S608 - a constant
                " (SELECT min(seq) FROM entry WHERE kind = ? GROUP BY stream) ORDER BY seq LIMIT ?",
                (kind, limit),
            ).fetchall()
        return [_entry(row) for row in rows]

    def entries(self, kind: str, stream: str | None = None) -> list[Entry]:
        """All that wait, in order."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE kind = ? AND (? IS NULL OR stream = ?) ORDER BY seq",  # noqa: S608
                (kind, stream, stream),
            ).fetchall()
        return [_entry(row) for row in rows]

    def acknowledge(self, *ids: str) -> None:
        """They are delivered; on the disk when this returns."""
        with self._transaction():
            self._db.executemany("DELETE FROM entry WHERE id = ?", [(each,) for each in ids])

    def put_off(self, entry: Entry) -> None:
        """Count a delivery that has to be tried again."""
        with self._transaction():
            self._db.execute("UPDATE entry SET tries = tries + 1 WHERE seq = ?", (entry.seq,))

    def bury(self, entry: Entry, reason: str) -> None:
        """Make it a dead letter."""
        with self._transaction():
            self._db.execute("DELETE FROM entry WHERE seq = ?", (entry.seq,))
            self._db.execute(
                "INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*entry, reason, self._now()),
            )

    def dead(self, kind: str | None = None) -> Sequence[DeadEntry]:
        """The dead letters, oldest first."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS}, reason, died_at FROM dead WHERE ? IS NULL OR kind = ? ORDER BY seq",  # noqa: S608
                (kind, kind),
            ).fetchall()
        return [DeadEntry(_entry(row[:8]), row[8], row[9]) for row in rows]

    def depth(self, kind: str) -> SpoolDepth:
        """How much of `kind` waits."""
        with self._lock:
            count, size, oldest = self._db.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0), min(put_at) FROM entry WHERE kind = ?", (kind,)
            ).fetchone()
            (dead,) = self._db.execute("SELECT count(*) FROM dead WHERE kind = ?", (kind,)).fetchone()
        return SpoolDepth(
            entries=count,
            size_bytes=size + count * _OVERHEAD_BYTES,
            oldest_s=max(0.0, self._now() - oldest) if oldest is not None else 0.0,
            dead=dead,
            dropped=self._dropped.get(kind, 0),
        )

    def has_room(self, kind: str, size_bytes: int) -> bool:
        """Whether an entry of so many bytes would be taken without dropping any."""
        share = self._shares.get(kind)
        return share is not None and self.depth(kind).size_bytes + size_bytes <= share.ratio * self._max_bytes

    def note(self, kind: str, name: str) -> bytes | None:
        """What was remembered under the name."""
        with self._lock:
            row = self._db.execute("SELECT value FROM note WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return bytes(row[0]) if row else None

    def notes(self, kind: str) -> dict[str, bytes]:
        """All that is remembered for a kind."""
        with self._lock:
            return {
                name: bytes(value)
                for name, value in self._db.execute("SELECT name, value FROM note WHERE kind = ?", (kind,))
            }

    def remember(self, kind: str, name: str, value: bytes | None) -> None:
        """Remember, or forget with None; on the disk when this returns."""
        with self._transaction():
            if value is None:
                self._db.execute("DELETE FROM note WHERE kind = ? AND name = ?", (kind, name))
            else:
                self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (kind, name, value))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _make_room(self, entry: New) -> None:
        share = self._shares.get(entry.kind)
        if share is None:
            raise SpoolFull(f"the spool takes no entries of kind {entry.kind!r}")
        limit = share.ratio * self._max_bytes
        need = len(entry.body) + _OVERHEAD_BYTES
        while self.depth(entry.kind).size_bytes + need > limit:
            row = self._db.execute(
                "SELECT seq FROM entry WHERE kind = ? AND NOT keep ORDER BY seq LIMIT 1", (entry.kind,)
            ).fetchone()
            if row is None:
                raise SpoolFull(f"the spool has no room for {need} bytes of kind {entry.kind!r} (limit {limit:.0f})")
            self._db.execute("DELETE FROM entry WHERE seq = ?", row)
            self._dropped[entry.kind] = self._dropped.get(entry.kind, 0) + 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise SpoolFull(f"the spool cannot be written: {error}") from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _entry(row: Iterable[object]) -> Entry:
    seq, id_, kind, stream, body, keep, put_at, tries = row
    return Entry(seq, id_, kind, stream, bytes(body), bool(keep), put_at, tries)  # type: ignore[arg-type, call-overload]  # sqlite's rows have no types


def _checksum(entry: New) -> bytes:
    text = "\0".join((entry.id, entry.kind, entry.stream)).encode()
    return hashlib.blake2b(entry.body, key=hashlib.blake2b(text).digest(), digest_size=16).digest()
