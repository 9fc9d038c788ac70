"""What workers left in their spools, read from copies of the files."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rpa_testkit.history.entries import Kind
from rpa_testkit.history.writer import HistoryWriter

_SUFFIX = ".spool"
_TABLES = {"waiting": "entry", "dead": "dead"}


def drained(folder: Path, live: int) -> bool:
    """Whether nothing waits, and of no more processes than are `live` there is a spool without dead letters.

    What a dead process left is looked after by another one, which removes the spool when it is done with it.
    """
    try:
        found = [read(file) for file in _files(folder)]
    except (OSError, sqlite3.Error):
        return False
    return not any(each["waiting"] for each in found) and sum(not each["dead"] for each in found) <= live


def observe_spools(folder: Path, history: HistoryWriter) -> None:
    """Write a line per spool in which something is left, and how many spools there are."""
    files = _files(folder)
    for file in files:
        name = str(file.relative_to(folder))
        try:
            history.add("observer", Kind.OBSERVE, "spool", name, read(file))
        except (OSError, sqlite3.Error) as error:
            history.add("observer", Kind.OBSERVE, "spool-unread", name, f"{type(error).__name__}: {error}")
    history.add("observer", Kind.OBSERVE, "spools", None, {"files": len(files)})


def read(file: Path) -> Mapping[str, dict[str, Any]]:
    """Entries by kind that wait, and that are dead letters; `reasons` of some of these."""
    with TemporaryDirectory(prefix="rpa-testkit-spool-") as copies:
        copy = Path(copies, file.name)
        for part in ("", "-wal"):
            with suppress(FileNotFoundError):  # without a log of its own everything is in the file
                shutil.copyfile(f"{file}{part}", f"{copy}{part}")
        if not copy.exists():
            return {"waiting": {}, "dead": {}}  # it was removed meanwhile: nothing was in it
        with closing(sqlite3.connect(copy)) as spool:
            there = {name for (name,) in spool.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found: dict[str, dict[str, Any]] = {
                what: dict(spool.execute(f"SELECT kind, count(*) FROM {table} GROUP BY kind"))  # noqa: S608 - ours
                if table in there
                else {}
                for what, table in _TABLES.items()
            }
            if found["dead"]:
                rows = spool.execute("SELECT DISTINCT kind, reason FROM dead LIMIT 5").fetchall()
                found["reasons"] = {f"{kind} {number}": reason for number, (kind, reason) in enumerate(rows)}
            return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{_SUFFIX}"))
