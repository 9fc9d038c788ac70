"""What can still be read of a damaged file: entries whose checksums agree, in order, notes and dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rpa_core.resilience.spool import letters, rows
from rpa_core.resilience.spool.model import New
from rpa_core.resilience.spool.sqlite import connect

_BUSY_S = 1.0


def salvage(old: Path, db: sqlite3.Connection) -> int:
    """Copy it into `db`, within its transaction; how many entries that were. Errors of the old file end nothing."""
    count = 0
    with closing(connect(str(old), timeout_s=_BUSY_S)) as found:
        for item in _rows(found, "SELECT name, value FROM meta ORDER BY name"):
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", item)
        for note in _rows(found, "SELECT kind, name, value, at FROM note ORDER BY kind, name"):
            db.execute("INSERT OR IGNORE INTO note VALUES (?, ?, ?, ?)", note)
        dead = dict(_rows(found, "SELECT seq, reason FROM dead NOT INDEXED ORDER BY seq"))
        tables: tuple[Literal["entry", "dead"], ...] = ("entry", "dead")
        for table in tables:
            for seq, new, put_at in _entries(found, table):
                if rows.is_known(db, new.id):
                    continue
                now_at = rows.insert(db, new, put_at)
                if table == "dead":
                    letters.bury(db, now_at, dead.get(seq, "unknown"), put_at)
                count += 1
    return count


def _entries(found: sqlite3.Connection, table: Literal["entry", "dead"]) -> Iterator[tuple[int, New, float]]:
    """From both ends, until the damage."""
    seqs: set[int] = set()
    for order in ("", "DESC"):
        seqs.update(seq for (seq,) in _rows(found, f"SELECT seq FROM {table} NOT INDEXED ORDER BY seq {order}"))  # noqa: S608 - constants
    for seq in sorted(seqs):
        sound = _try(partial(rows.old_new, found, table, seq))
        if sound is not None:
            yield (seq, *sound)


def _rows(found: sqlite3.Connection, statement: str) -> Iterator[tuple[Any, ...]]:
    cursor = _try(lambda: found.execute(statement))
    while cursor is not None and (row := _try(cursor.fetchone)) is not None:
        yield row


def _try(ask: Callable[[], Any]) -> Any:
    """None where it cannot be read."""
    try:
        return ask()
    except (sqlite3.Error, UnicodeDecodeError, TypeError, ValueError):
        return None
