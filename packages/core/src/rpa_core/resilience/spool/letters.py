"""Dead letters: made here, and put back or thrown away by a person, in whichever process."""

from __future__ import annotations

import sqlite3

from rpa_core.errors import InputError
from rpa_core.resilience.spool import rows

_BURY = """INSERT OR REPLACE INTO dead (seq, id, kind, stream, keep, put_at, tries, size, checksum, reason, died_at)
SELECT seq, id, kind, stream, keep, put_at, tries, size, checksum, ?, ? FROM entry WHERE seq = ?"""


class DamagedLetter(InputError):
    """It cannot be put back: what was put is no longer there."""

    code = "SPL004"


def bury(db: sqlite3.Connection, seq: int, reason: str, now: float) -> bool:
    """Make one that waits a dead letter; False if it waits no longer."""
    if not db.execute(_BURY, (reason, now, seq)).rowcount:
        return False
    db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
    return True


def put_back(db: sqlite3.Connection, id_: str, now: float) -> bool:
    """To the end of its stream, under the same id and as if new; False if there is none. Raises DamagedLetter."""
    found = rows.dead_new(db, id_)
    if found is None:
        return False
    new, sound = found
    if not sound:
        raise DamagedLetter(f"{id_} is damaged and cannot be delivered; `rpa spool discard {id_}` throws it away")
    rows.insert(db, new, now)
    return discard(db, id_)


def discard(db: sqlite3.Connection, id_: str) -> bool:
    """Throw it away; False if there is none."""
    db.execute("DELETE FROM body WHERE seq IN (SELECT seq FROM dead WHERE id = ?)", (id_,))
    return bool(db.execute("DELETE FROM dead WHERE id = ?", (id_,)).rowcount)
