"""One spool: a SQLite file, or the same in memory."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rpa_core.resilience.spool import letters, rows
from rpa_core.resilience.spool.database import Database, DiskFull
from rpa_core.resilience.spool.model import DamagedEntry, DeadEntry, Entry, Listener, New, Share, SpoolDepth, SpoolFull
from rpa_core.resilience.spool.reserve import Reserve
from rpa_core.resilience.spool.room import Room
from rpa_core.resilience.spool.sqlite import damaged

logger = logging.getLogger("rpa.spool")
_READ_BYTES = 8 * 2**20  # of bodies that `heads` reads at a time, beyond the first
_SLICE = 200  # entries that one transaction takes out, so that the log stays small
_DEPTH = """SELECT entries, size + dead_size, dead,
    (SELECT min(put_at) FROM entry WHERE seq IN (
        (SELECT min(seq) FROM entry WHERE kind = :kind AND keep = 0),
        (SELECT min(seq) FROM entry WHERE kind = :kind AND keep = 1)))
FROM used WHERE kind = :kind"""
_OLD = "SELECT seq, put_at FROM entry WHERE kind = ? AND keep = ? ORDER BY seq LIMIT ?"
_LEFT = """SELECT EXISTS (SELECT 1 FROM entry) OR EXISTS (SELECT 1 FROM dead)
OR EXISTS (SELECT 1 FROM note WHERE at > ?)"""


class Spool:
    """A queue of entries by kind and stream. Every method may be called from any thread.

    `path` None keeps it in memory. `shares` says what each kind may take of `max_bytes`; a kind without one is
    refused. `about` is written into a new file. Writing raises SpoolFull where there is no room, on the disk or within
    the limits, and when the spool is closed; a closed one is empty to readers. Opening raises SpoolFull and OSError.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int,
        shares: Mapping[str, Share],
        now: Callable[[], float] = time.time,
        about: Mapping[str, str] | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self.path = path
        self._room = Room(max_bytes, shares)
        self._now = now
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._dropped: Counter[str] = Counter()
        self._guard = threading.Lock()  # of the two above
        self._db = Database(path, about=about or {}, reserve=reserve)
        # What was written into the file when it was new.
        self.about: dict[str, str] = self._db.read(lambda db: dict(db.execute("SELECT name, value FROM meta")), {})

    @property
    def durable(self) -> bool:
        """Whether what is put outlives the process."""
        return self.path is not None

    def put(self, *entries: New) -> None:
        """Take them, all or none; returns when they are on the disk. Raises SpoolFull.

        Those with keep=False count as taken when they are dropped for lack of room.
        """
        try:
            dropped = self._db.write(lambda db: self._insert(db, entries), urgent=self._may_use_reserve(entries))
        except DiskFull:
            kept = [entry for entry in entries if entry.keep]
            if len(kept) == len(entries):
                raise
            dropped = Counter(entry.kind for entry in entries if not entry.keep)
            if kept:
                dropped += self._db.write(lambda db: self._insert(db, kept), urgent=self._may_use_reserve(kept))
        self._count_dropped(dropped)
        for kind in {entry.kind for entry in entries}:
            for listener in self._listeners.get(kind, ()):
                listener.on_put()

    def heads(self, kind: str, limit: int = 100, *, without: Collection[str] = ()) -> list[Entry]:
        """The oldest entry of each stream of `kind`, but of those `without`, oldest first.

        A damaged one becomes a dead letter, and the next one of its stream takes its place.
        """

        streamed = self._is_streamed(kind)

        def find(db: sqlite3.Connection) -> list[rows.Row]:
            found: list[rows.Row] = []
            size = 0
            for seq in rows.heads(db, kind, limit, without):
                row = rows.by_seq(db, seq, streamed=streamed)
                if row is None:
                    raise damaged(f"an index names row {seq}, which is not there")
                found.append(row)
                size += len(row[0].body)
                if size > _READ_BYTES:
                    break
            return found

        return self._sound(lambda: self._db.read(find, []))

    def waits(self, kind: str, stream: str) -> bool:
        """Whether anything of the stream does."""
        return self._db.read(lambda db: rows.waits(db, kind, stream), False)

    def entries(self, kind: str, stream: str | None = None, *, limit: int = -1, after: int = 0) -> list[Entry]:
        """All that wait, in order, or the first `limit` behind the one whose `seq` is `after`.

        Damaged ones become dead letters.
        """
        streamed = self._is_streamed(kind)

        def find(db: sqlite3.Connection) -> list[rows.Row]:
            return rows.in_order(db, kind, stream, limit, after=after, streamed=streamed)

        return self._sound(lambda: self._db.read(find, []))

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """The whole body of an entry that waits, at most 64 KiB at a time.

        Raises DamagedEntry, at the end, where it is not what was put, and SpoolFull where it cannot be read.
        """
        try:
            with self._db.alone() as db:
                found = rows.stored(db, entry)
                if found is None:
                    raise DamagedEntry(f"{entry.id}: {rows.DAMAGED}")
                body, expected = found
                digest = rows.Checksum(entry.id, entry.kind, entry.stream, keep=entry.keep, put_at=entry.put_at)
                for piece in body:
                    digest.update(piece)
                    yield piece
        except sqlite3.Error as error:
            raise SpoolFull(f"the spool cannot be read: {error}") from error
        if digest.digest() != expected:
            raise DamagedEntry(f"{entry.id}: {rows.DAMAGED}")

    def begin(self, entry: Entry, begun: int) -> None:
        """Note, before a delivery begins, how many will not have come back if it does not either."""
        if self.durable and entry.begun != begun:
            self._db.note(lambda db: db.execute("UPDATE entry SET begun = ? WHERE seq = ?", (begun, entry.seq)))

    def acknowledge(self, *ids: str) -> None:
        """They are delivered; on the disk when this returns. Unknown ids change nothing."""

        def work(db: sqlite3.Connection) -> None:
            for id_ in ids:
                row = db.execute("SELECT seq FROM entry WHERE id = ?", (id_,)).fetchone()
                if row is not None:
                    rows.delete(db, row[0])

        self._db.write(work)

    def put_off(self, entry: Entry) -> None:
        """Count a delivery that came back and has to be tried again."""
        statement = "UPDATE entry SET tries = tries + 1, begun = ? WHERE seq = ?"
        self._db.write(lambda db: db.execute(statement, (entry.begun, entry.seq)), urgent=False)

    def bury(self, entry: Entry, reason: str) -> None:
        """Make it a dead letter, if it still waits."""
        died_at = self._now()
        if self._db.write(lambda db: letters.bury(db, entry.seq, reason, died_at)):
            self._tell_dead(DeadEntry(entry, reason, died_at))

    def dead(self, kind: str | None = None) -> Sequence[DeadEntry]:
        """The dead letters, oldest first."""
        return self._db.read(lambda db: rows.dead_rows(db, kind), [])

    def retry(self, id_: str) -> bool:
        """Put a dead letter back to the end of its stream; False if there is none. Raises DamagedLetter."""
        return self._db.write(lambda db: letters.put_back(db, id_, self._now()), urgent=False)

    def discard(self, id_: str) -> bool:
        """Throw a dead letter away; False if there is none."""
        return self._db.write(lambda db: letters.discard(db, id_))

    def expire(self, kind: str) -> int:
        """Take out what is too old: dropped, or a dead letter where it is to be kept; how many."""
        max_age_s = self._room.share(kind).max_age_s
        if max_age_s is None:
            return 0
        count = 0
        for keep in (False, True):
            while old := self._older_than(kind, keep, self._now() - max_age_s):
                self._take_out(kind, old, keep, f"not delivered within {max_age_s:.0f} s")
                count += len(old)
        return count

    def depth(self, kind: str) -> SpoolDepth:
        """How much of `kind` waits; dead letters count in its bytes."""
        row = self._db.read(lambda db: db.execute(_DEPTH, {"kind": kind}).fetchone(), None)
        entries, size, dead, oldest = row or (0, 0, 0, None)
        return SpoolDepth(
            entries=entries,
            size_bytes=size,
            oldest_s=max(0.0, self._now() - oldest) if oldest is not None else 0.0,
            dead=dead,
            dropped=self._dropped[kind],
        )

    def has_room(self, kind: str, size_bytes: int) -> bool:
        """Whether an entry with a body of so many bytes would be taken without dropping any."""
        size = rows.size_of(size_bytes)
        return self._db.read(lambda db: self._room.has(db, kind, size), False)

    def note(self, kind: str, name: str) -> bytes | None:
        """What was remembered under the name."""
        return self.notes(kind).get(name)

    def notes(self, kind: str) -> dict[str, bytes]:
        """All that is remembered for a kind."""
        statement = "SELECT name, value FROM note WHERE kind = ?"
        return self._db.read(lambda db: dict(db.execute(statement, (kind,))), {})

    def remember(self, kind: str, name: str, value: bytes | None) -> None:
        """Remember, or forget with None; on the disk when this returns."""

        def work(db: sqlite3.Connection) -> None:
            if value is None:
                db.execute("DELETE FROM note WHERE kind = ? AND name = ?", (kind, name))
            else:
                db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?, ?)", (kind, name, value, self._now()))

        self._db.write(work)

    def listen(self, kind: str, listener: Listener) -> None:
        """Tell it of puts and dead letters of the kind; once is enough."""
        with self._guard:
            if listener not in self._listeners.get(kind, ()):
                self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

    def tidy(self) -> None:
        """Take out what is too old, and give back space that is not needed any more."""
        for kind in self._room.kinds:
            self.expire(kind)
        self._db.give_back()

    def close(self) -> None:
        """Close the file; what waits in it is not seen any more."""
        self._db.close()

    def close_if_drained(self, *, notes_for_s: float = 0.0) -> bool:
        """Close it if nothing is left in it, not counting notes that are older; whether it did."""
        since = self._now() - notes_for_s
        return self._db.close_if(lambda db: not db.execute(_LEFT, (since,)).fetchone()[0])

    def _is_streamed(self, kind: str) -> bool:
        return kind in self._room.kinds and self._room.share(kind).streamed

    def _insert(self, db: sqlite3.Connection, entries: Sequence[New]) -> Counter[str]:
        dropped: Counter[str] = Counter()
        now = self._now()
        for entry in entries:
            if not rows.is_known(db, entry.id) and self._room.make(db, entry, dropped):
                rows.insert(db, entry, now)
        return dropped

    def _may_use_reserve(self, entries: Sequence[New]) -> bool:
        return all(entry.keep and self._room.share(entry.kind).reserve for entry in entries)

    def _sound(self, find: Callable[[], list[rows.Row]]) -> list[Entry]:
        while True:
            found = find()
            broken = [entry for entry, sound in found if not sound]
            try:
                for entry in broken:
                    self.bury(entry, rows.DAMAGED)
            except SpoolFull as error:  # then their streams wait
                logger.warning("damaged entries stay: %s", error, extra={"event.action": "spool.damaged_entry"})
                blocked = {entry.stream for entry in broken}
                return [entry for entry, sound in found if sound and entry.stream not in blocked]
            if not broken:
                return [entry for entry, _ in found]

    def _older_than(self, kind: str, keep: bool, before: float) -> list[int]:
        nothing: list[tuple[int, float]] = []
        found = self._db.read(lambda db: db.execute(_OLD, (kind, keep, _SLICE)).fetchall(), nothing)
        return [seq for seq, put_at in found if put_at < before]

    def _take_out(self, kind: str, seqs: Sequence[int], keep: bool, reason: str) -> None:
        died_at = self._now()
        streamed = self._is_streamed(kind)

        def work(db: sqlite3.Connection) -> list[Entry]:
            gone = []
            for seq in seqs:
                row = rows.by_seq(db, seq, streamed=streamed)
                if row is None:  # delivered meanwhile
                    continue
                gone.append(row[0])
                if keep:
                    letters.bury(db, seq, reason, died_at)
                else:
                    rows.delete(db, seq)
            return gone

        gone = self._db.write(work)
        if not keep:
            self._count_dropped(Counter({kind: len(gone)}))
            return
        for entry in gone:
            self._tell_dead(DeadEntry(entry, reason, died_at))

    def _count_dropped(self, dropped: Counter[str]) -> None:
        if dropped:
            with self._guard:
                self._dropped.update(dropped)

    def _tell_dead(self, dead: DeadEntry) -> None:
        entry = dead.entry
        logger.warning(
            "%s of kind %s became a dead letter: %s",
            entry.id,
            entry.kind,
            dead.reason,
            extra={"event.action": "spool.dead"},
        )
        for listener in self._listeners.get(entry.kind, ()):
            listener.on_dead(dead)
