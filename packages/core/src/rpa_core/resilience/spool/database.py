"""The SQLite file of a spool: how it is opened, written and read, and what happens when the disk or the file fails.

One connection writes and another one reads, so that whoever looks does not wait for the disk. In memory both are one.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from rpa_core.errors import RpaError
from rpa_core.resilience.spool.model import SpoolFull
from rpa_core.resilience.spool.reserve import Reserve
from rpa_core.resilience.spool.salvage import salvage
from rpa_core.resilience.spool.sqlite import connect, damaged, messages, primary_code, transaction

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
logger = logging.getLogger("rpa.spool")

VERSION = 1
_APPLICATION = 0x52504153  # "RPAS" in the file's header: a spool, and nobody else's database
_BUSY_S = 5.0  # another process that puts back or discards a dead letter
_CHECKPOINT_PAGES = 64  # with pages of 4 KiB: the log stays small enough for a small reserve
_VACUUM_FROM_PAGES = 64
_VACUUM_PAGES = 1024  # at a time
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DiskFull(SpoolFull):
    """The disk took nothing more."""


class NewerSpool(RpaError):
    """The file was written by a newer version, which can read it."""

    code = "SPL003"


class _Foreign(sqlite3.DatabaseError):
    """A database of another program."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


class Database:
    """`about` is written into a new file. Raises DiskFull, NewerSpool and OSError."""

    def __init__(self, path: Path | None, *, about: Mapping[str, str], reserve: Reserve | None = None) -> None:
        self.path = path
        self._about = dict(about)
        self._reserve = reserve
        self._closed = False
        self._writing = threading.RLock()
        self._reading = threading.RLock() if path is not None else self._writing
        try:
            self._open()
        except sqlite3.Error as error:
            if path is None or not _is(error, _DAMAGED):
                raise DiskFull(f"the spool cannot be opened: {error}") from error
            self._begin_anew(path, error)

    def read(self, work: Work[T], closed: T) -> T:
        """What `work` finds, in one snapshot; `closed` when the spool is closed. `work` may run twice."""
        for certain in (False, True):
            try:
                return self._read(work, closed)
            except sqlite3.Error as error:
                if not self._replace(error, certain=certain):
                    raise SpoolFull(f"the spool cannot be read: {error}") from error
        return self._read(work, closed)

    def write(self, work: Work[T], *, urgent: bool = True) -> T:
        """Run `work` in a transaction, on the disk when this returns; on a full disk again, `urgent` with the reserve.

        Raises DiskFull, SpoolFull, and whatever `work` raises; then nothing was written.
        """
        with self._writing:
            if self._closed:
                raise SpoolFull("the spool is closed")
            cures = [self._shrink_log, self._use_reserve] if urgent else [self._shrink_log]
            certain = False
            while True:
                try:
                    return self._write(work)
                except sqlite3.Error as error:
                    if self._replace(error, certain=certain):
                        certain = True
                    elif not (cures and _is(error, _FULL) and cures.pop(0)()):
                        raise DiskFull(f"the spool cannot be written: {error}") from error

    def note(self, work: Work[T]) -> T | None:
        """Run `work` in a transaction that outlives this process, but not the machine's power; None on a full disk.

        It does not wait for the disk. Raises SpoolFull when the spool is closed.
        """
        with self._writing:
            if self._closed:
                raise SpoolFull("the spool is closed")
            try:
                self._writer.execute("PRAGMA synchronous = NORMAL")
                return self._write(work)
            except sqlite3.Error as error:
                logger.debug("not noted: %s", error)
                return None
            finally:
                self._writer.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, for reading what takes long; a spool in memory has but one."""
        if self.path is None:
            with self._reading:
                yield self._reader
            return
        with closing(_connect(self.path)) as db:
            db.execute("PRAGMA query_only = ON")
            yield db

    def give_back(self) -> None:
        """Return some of the space that delivered entries left, when it is most of the file."""
        with self._writing, suppress(sqlite3.OperationalError):  # on a full disk there is a next time
            if self._closed or self.path is None:
                return
            (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
            (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
            if free > _VACUUM_FROM_PAGES and free > pages // 2:
                self._writer.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
                self._shrink_log()

    def close(self) -> None:
        """Close the file; what waits in it is not seen any more."""
        with self._writing, self._reading:
            if not self._closed:
                self._closed = True
                self._disconnect()

    def close_if(self, work: Work[bool]) -> bool:
        """Close it if `work` says so, with nobody writing in between; whether it did."""
        with self._writing:
            if self._closed or not self.read(work, False):
                return False
            self.close()
            return True

    @messages()
    def _read(self, work: Work[T], closed: T) -> T:
        with self._reading:
            if self._closed:
                return closed
            with transaction(self._reader, "DEFERRED"):
                return work(self._reader)

    @messages()
    def _write(self, work: Work[T]) -> T:
        with transaction(self._writer, "IMMEDIATE"):
            return work(self._writer)

    @messages()
    def _open(self) -> None:
        if self.path is None:
            self._writer = self._reader = _connect(":memory:")
            self._begin()
            return
        new = _touch(self.path)
        if not new and _is_foreign(self.path):  # before a pragma changes it
            raise _Foreign(f"{self.path.name} is some other database")
        self._writer = _connect(self.path)
        try:
            self._writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._writer.execute("PRAGMA journal_size_limit = 0")
            if not new:
                _check(self._writer, self.path)
            self._begin()
            self._reader = _connect(self.path)
            self._reader.execute("PRAGMA query_only = ON")
        except BaseException:
            self._writer.close()
            raise
        if new:
            _sync_folder(self.path.parent)

    def _begin(self) -> None:
        """The whole layout in one transaction: a file has all of it or is empty."""
        script = resources.files(__package__).joinpath("spool.sql").read_text()
        with transaction(self._writer, "IMMEDIATE"):
            self._writer.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._writer.execute(f"PRAGMA user_version = {VERSION}")
            for statement in script.split(";\n\n"):
                self._writer.execute(statement)
            if "begun" not in {column[1] for column in self._writer.execute("PRAGMA table_info(entry)")}:
                self._writer.execute("ALTER TABLE entry ADD COLUMN begun INTEGER NOT NULL DEFAULT 0")
            for item in self._about.items():
                self._writer.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO NOTHING", item)

    def _replace(self, error: sqlite3.Error, *, certain: bool) -> bool:
        """Begin a new file in place of a damaged one; whether to try again.

        An index that is wrong is built anew, and another thread may have replaced the file already; if the same work
        finds damage once more, it is `certain`.
        """
        if self.path is None or not _is(error, _DAMAGED):
            return False
        with self._writing, self._reading:
            if self._closed or (not certain and self._is_sound(self.path)):
                return True
            self._disconnect()
            self._begin_anew(self.path, error)
        return True

    def _is_sound(self, path: Path) -> bool:
        with closing(_connect(path)) as fresh:  # the writer may remember pages as they were
            try:
                _check(fresh, path)
            except sqlite3.Error:
                return False
        return True

    def _begin_anew(self, path: Path, error: sqlite3.Error) -> None:
        aside = set_aside(path)
        try:
            self._open()
            saved = 0 if isinstance(error, _Foreign) else self.write(lambda db: salvage(aside, db))
        except sqlite3.Error as again:
            raise DiskFull(f"the spool cannot be opened: {again}") from again
        logger.error(
            "%s is damaged (%s): it was put aside as %s; %d entries of it go on in a new one",
            path,
            error,
            aside.name,
            saved,
            extra={"event.action": "spool.damaged"},
        )

    def _use_reserve(self) -> bool:
        return self._reserve is not None and self._reserve.release()

    def _shrink_log(self) -> bool:
        """Move what the log holds into free pages of the file; always worth a second try."""
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            logger.debug("the log stays as it is: %s", error)
        return True

    def _disconnect(self) -> None:
        for connection in (self._reader, self._writer):
            try:
                connection.close()
            except sqlite3.Error as error:
                logger.warning("closing the spool failed: %s", error, extra={"event.action": "spool.close_failed"})


def set_aside(path: Path) -> Path:
    """Rename a file that is no spool any more, with its log; where it is now."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


@messages()
def _check(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == _APPLICATION and version > VERSION:
        raise NewerSpool(f"{path} was written by a newer version (layout {version}, this one reads {VERSION})")
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != _APPLICATION:
        raise damaged("it is some other database")
    answer = _integrity(db)
    if answer != "ok" and "index" in answer:
        db.execute("REINDEX")
        answer = _integrity(db)
    if answer != "ok":
        raise damaged(answer)


def _is_foreign(path: Path) -> bool:
    """Whether it is a sound database of another program. Only reads, and creates no file beside it."""
    with path.open("rb") as file:
        head = file.read(72)
    if not head.startswith(b"SQLite format 3\0") or int.from_bytes(head[68:72]) == _APPLICATION:
        return False
    address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    try:
        with closing(connect(address, timeout_s=_BUSY_S, uri=True)) as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:  # a damaged one, or one whose layout still is in its log
        return False
    return bool(tables)


def _integrity(db: sqlite3.Connection) -> str:
    return str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])


def _connect(path: Path | str) -> sqlite3.Connection:
    return connect(str(path), timeout_s=_BUSY_S)


def _touch(path: Path) -> bool:
    """Create the file for its owner alone; whether it is new. SQLite gives its log the same mode."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException | None) -> bool:
    """Whether the disk has no room or does not work, rather than not being the process's to write on."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    if isinstance(error, sqlite3.Error):
        return _is(error, {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
    return error is not None and is_full(error.__cause__)


def _is(error: sqlite3.Error, codes: set[int]) -> bool:
    return primary_code(error) in codes
