"""Room: what each kind may take, and what goes when there is none."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping

from rpa_core.resilience.spool import letters, rows
from rpa_core.resilience.spool.model import New, Share, SpoolFull

_OLDEST = "SELECT seq FROM entry WHERE kind = ? AND keep = 0 ORDER BY seq LIMIT 1"
_OLDEST_DEAD = "SELECT id FROM dead WHERE kind = ? AND NOT keep ORDER BY seq LIMIT 1"


class Room:
    """The limits of one spool; dead letters count like what waits."""

    def __init__(self, max_bytes: int, shares: Mapping[str, Share]) -> None:
        self._max_bytes = max_bytes
        self._shares = dict(shares)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that have a share."""
        return tuple(self._shares)

    def share(self, kind: str) -> Share:
        """Raises SpoolFull for a kind without one."""
        if kind not in self._shares:
            raise SpoolFull(f"the spool takes no entries of kind {kind!r}")
        return self._shares[kind]

    def has(self, db: sqlite3.Connection, kind: str, size: int, *, keep: bool = True) -> bool:
        """Whether an entry that takes so many bytes fits as it is."""
        share = self._shares.get(kind)
        if share is None:
            return False
        own, all_ = _used(db, kind)
        return all_ + size <= self._max_bytes and (
            own + size <= share.ratio * self._max_bytes or (share.overdraw and keep)
        )

    def make(self, db: sqlite3.Connection, new: New, dropped: Counter[str]) -> bool:
        """Drop what may be dropped until `new` fits; False if `new` itself is what goes. Raises SpoolFull."""
        share = self.share(new.kind)
        size = rows.size_of(rows.length_of(new.body))
        within = size <= share.ratio * self._max_bytes
        while not self.has(db, new.kind, size, keep=new.keep):
            if not (within and self._drop_oldest(db, new.kind)):
                if new.keep:
                    raise SpoolFull(f"the spool has no room for {size} bytes of kind {new.kind!r}")
                dropped[new.kind] += 1
                return False
            dropped[new.kind] += 1
        return True

    def _drop_oldest(self, db: sqlite3.Connection, kind: str) -> bool:
        dead = db.execute(_OLDEST_DEAD, (kind,)).fetchone()
        if dead is not None:
            return letters.discard(db, dead[0])
        row = db.execute(_OLDEST, (kind,)).fetchone()
        if row is None:
            return False
        rows.delete(db, row[0])
        return True


def _used(db: sqlite3.Connection, kind: str) -> tuple[int, int]:
    own = all_ = 0
    for each, size in db.execute("SELECT kind, size + dead_size FROM used"):
        all_ += size
        own += size if each == kind else 0
    return own, all_
