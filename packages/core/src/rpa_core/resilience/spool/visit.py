"""Looking at spools from outside, and deciding about dead letters there, while their owners live or not.

SQLite keeps the visitor and the owner apart. A look takes no lock that a writer would wait for; it neither creates a
file nor puts one aside.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rpa_core.errors import RpaError
from rpa_core.resilience.spool import letters, rows
from rpa_core.resilience.spool.locks import is_locked
from rpa_core.resilience.spool.model import DeadEntry, SpoolDepth
from rpa_core.resilience.spool.sqlite import connect, primary_code, transaction

_BUSY_S = 10.0
_KINDS = """SELECT kind, entries, size + dead_size, dead,
    (SELECT min(put_at) FROM entry WHERE entry.kind = used.kind) FROM used ORDER BY kind"""


class SpoolUnreadable(RpaError):
    """A spool's file cannot be looked at, or not be written."""

    code = "SPL005"
    exit_code = 74


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One spool as it was found. `kinds` has those of which something waits or is dead."""

    path: Path
    flow: str
    owner: str
    living: bool
    kinds: Mapping[str, SpoolDepth]


def files(folder: Path) -> list[Path]:
    """Every spool in a folder, of whatever flow. Raises SpoolUnreadable."""
    if not folder.is_dir():
        raise SpoolUnreadable(f"{folder} is no folder; name the one that CONTAINER_SPOOL_DIR names, with --dir")
    return sorted(folder.glob("*.spool"))


def look(path: Path) -> Seen:
    """What is in it. Raises SpoolUnreadable."""
    with _connection(path, "ro") as db:
        about = dict(db.execute("SELECT name, value FROM meta"))
        found = db.execute(_KINDS).fetchall()
    now = time.time()
    kinds = {
        kind: SpoolDepth(entries=entries, size_bytes=size, dead=dead, oldest_s=max(0.0, now - (oldest or now)))
        for kind, entries, size, dead, oldest in found
        if entries or dead
    }
    owner = about.get("owner", "unknown")
    return Seen(path=path, flow=about.get("flow", "unknown"), owner=owner, living=is_locked(path), kinds=kinds)


def dead_letters(path: Path, kind: str | None = None) -> Sequence[DeadEntry]:
    """Oldest first. Raises SpoolUnreadable."""
    with _connection(path, "ro") as db:
        return rows.dead_rows(db, kind)


def retry(path: Path, id_: str) -> bool:
    """Put a dead letter back to the end of its stream; False if it is not here. Raises DamagedLetter, SpoolUnreadable.

    The process that delivers the spool finds it within seconds.
    """
    with _connection(path, "rw") as db, transaction(db, "IMMEDIATE"):
        return letters.put_back(db, id_, time.time())


def discard(path: Path, id_: str) -> bool:
    """Throw a dead letter away; False if it is not here. Raises SpoolUnreadable."""
    with _connection(path, "rw") as db, transaction(db, "IMMEDIATE"):
        return letters.discard(db, id_)


@contextmanager
def _connection(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    try:
        with closing(connect(address, timeout_s=_BUSY_S, uri=True)) as db:
            if mode == "rw":
                db.execute("PRAGMA synchronous = FULL")
            yield db
    except sqlite3.Error as error:
        raise SpoolUnreadable(f"{path}: {error}; {_advice(error)}") from error
    except PermissionError as error:
        raise SpoolUnreadable(f"{path}: {error.strerror}; run this as the user that the container runs as") from error


def _advice(error: sqlite3.Error) -> str:
    code = primary_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "it is damaged; the next process of its flow puts it aside, `sqlite3 FILE .recover` reads what it can"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return "run this as the user that the container runs as, where its folder can be written"
    return "try again"
