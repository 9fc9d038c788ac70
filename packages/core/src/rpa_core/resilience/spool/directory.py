"""The spools of one process: its own, and those that dead processes of the same flow left behind."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from rpa_core.errors import ConfigError, RpaError
from rpa_core.resilience.spool.database import is_full
from rpa_core.resilience.spool.locks import OwnerLock, try_lock
from rpa_core.resilience.spool.model import Share, SpoolFull
from rpa_core.resilience.spool.reserve import Reserve, reserve_path
from rpa_core.resilience.spool.spool import Spool
from rpa_core.waits import pause

logger = logging.getLogger("rpa.spool")
SUFFIX = ".spool"
_LOCK_TRIES = 20  # `rpa spool status` holds the lock of each spool for a moment


class SpoolUnusable(ConfigError):
    """The spool's folder cannot be written."""

    code = "SPL002"


def shares(max_age_s: float | None) -> dict[str, Share]:
    """What each kind may take; the package's docstring has the table."""
    return {
        "prefect": Share(ratio=0.25, max_age_s=max_age_s, overdraw=True, reserve=True),
        "alert": Share(ratio=0.05, max_age_s=max_age_s, reserve=True),
        "finished": Share(ratio=0.35, max_age_s=max_age_s),
        "intake": Share(ratio=0.35, max_age_s=max_age_s, streamed=True),
    }


class _Folder:
    """Where the spools of a process are, and how one is opened there."""

    def __init__(self, path: Path, *, flow: str, max_bytes: int, max_age_s: float, now: Callable[[], float]) -> None:
        self.path = path
        self.flow = flow
        self.max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._now = now

    def open(self, path: Path | None, *, owner: str, reserve: Reserve | None) -> Spool:
        return Spool(
            path,
            max_bytes=self._max_bytes,
            shares=shares(self.max_age_s),
            now=self._now,
            about={"flow": self.flow, "owner": owner, "begun_at": repr(self._now())},
            reserve=reserve,
        )

    def found(self) -> list[Path]:
        """Every spool of the flow."""
        return sorted(path for path in self.path.glob(f"{_safe(self.flow)}.*{SUFFIX}") if _is_plain(path))

    def sweep(self) -> None:
        """Remove what a process left that died between removing a spool and the files beside it."""
        for beside in self.path.glob(f"{_safe(self.flow)}.*{SUFFIX}-*"):
            spool = beside.with_name(beside.name.rpartition("-")[0])
            try:
                lock = None if spool.exists() else try_lock(spool)
            except OSError:  # something else has the lock's name: the next start asks again
                continue
            if lock is not None:
                remove = not spool.exists()
                if remove:
                    _remove(spool)
                lock.release(remove=remove)


class Spools:
    """`own` takes what this process puts; adopted ones are only emptied. Every method may be called from any thread."""

    def __init__(
        self,
        own: Spool,
        folder: _Folder | None = None,
        *,
        lock: OwnerLock | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self.own = own
        self._folder = folder
        self._lock = lock
        self._reserve = reserve
        self._adopted: dict[Path, tuple[Spool, OwnerLock]] = {}
        self._guard = threading.Lock()  # of the dictionary
        self._changing = threading.Lock()  # one adopts or tidies at a time; nobody who reads waits for that

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of entries that there are."""
        return tuple(shares(None))

    def adopted(self) -> Sequence[Spool]:
        """Those of dead processes, as they are now, oldest first."""
        with self._guard:
            return sorted((spool for spool, _ in self._adopted.values()), key=_begun_at)

    def all(self) -> Sequence[Spool]:
        """The adopted ones, oldest first, and its own."""
        return [*self.adopted(), self.own]

    def adopt(self) -> int:
        """Take over what dead processes of the flow left; how many spools that was."""
        if self._folder is None:
            return 0
        with self._changing:
            self._folder.sweep()
            return sum(self._adopt(self._folder, path) for path in self._folder.found())

    def tidy(self) -> int:
        """Take out what is too old; remove adopted spools in which nothing is left; how many."""
        for spool in self.all():
            try:
                spool.tidy()
            except SpoolFull as error:
                logger.warning("the spool is not tidied: %s", error, extra={"event.action": "spool.not_tidied"})
        with self._changing:
            count = sum(self._remove_drained(path) for path in list(self._adopted))
        if self._reserve is not None:
            self._reserve.make()
        return count

    def close(self) -> None:
        """Close all. What waits stays on the disk for the next process; a file in which nothing is left goes."""
        with self._changing:
            for path in list(self._adopted):
                self._remove_drained(path)
            with self._guard:
                for spool, lock in self._adopted.values():
                    spool.close()
                    lock.release()
                self._adopted.clear()
            drained = self.own.close_if_drained(notes_for_s=self._folder.max_age_s if self._folder else 0.0)
            self.own.close()
            if self._reserve is not None:
                self._reserve.remove()
            if self._lock is not None:
                if drained and self.own.path is not None:
                    _remove(self.own.path)
                self._lock.release(remove=drained)
                self._lock = None

    def _adopt(self, folder: _Folder, path: Path) -> bool:
        if path == self.own.path or path in self._adopted:
            return False
        try:
            lock = try_lock(path)
        except OSError as error:
            logger.warning("%s cannot be taken over: %s", path, error, extra={"event.action": "spool.not_adopted"})
            return False
        if lock is None:
            return False
        spool = self._open_dead(folder, path)
        if spool is None:
            lock.release()
            return False
        with self._guard:
            self._adopted[path] = spool, lock
        logger.warning("took over %s of a process that is gone", path.name, extra={"event.action": "spool.adopted"})
        return True

    def _open_dead(self, folder: _Folder, path: Path) -> Spool | None:
        if not path.exists():  # drained and removed by somebody else since it was found
            return None
        Reserve(reserve_path(path), 0).remove()  # it was kept for this moment
        try:
            spool = folder.open(path, owner="unknown", reserve=self._reserve)
        except (RpaError, OSError) as error:
            logger.warning("%s cannot be taken over: %s", path, error, extra={"event.action": "spool.not_adopted"})
            return None
        if spool.about.get("flow") != folder.flow:
            spool.close()
            return None
        return spool

    def _remove_drained(self, path: Path) -> bool:
        assert self._folder is not None
        spool, lock = self._adopted[path]
        if not spool.close_if_drained(notes_for_s=self._folder.max_age_s):
            return False
        with self._guard:
            del self._adopted[path]
        _remove(path)
        lock.release(remove=True)
        logger.info("%s is empty and was removed", path.name, extra={"event.action": "spool.drained"})
        return True


def open_spools(
    directory: Path | None,
    *,
    flow: str,
    label: str,
    incarnation: str,
    max_bytes: int,
    max_age_s: float,
    reserve_bytes: int,
    now: Callable[[], float] = time.time,
) -> Spools:
    """The spools of a process that begins; what it can adopt it has adopted.

    `directory` None keeps its own in memory, and so does a disk that is full. Raises SpoolUnusable.
    """
    owner = f"{label}:{incarnation}"
    folder = _Folder(directory or Path(), flow=flow, max_bytes=max_bytes, max_age_s=max_age_s, now=now)
    if directory is None:
        return Spools(folder.open(None, owner=owner, reserve=None))
    path = directory / f"{_safe(flow)}.{_safe(label)}.{_safe(incarnation)}{SUFFIX}"
    spools = _begin(folder, path, owner, reserve_bytes)
    if spools is None:  # what dead processes kept in reserve may be room enough
        with closing(Spools(folder.open(None, owner=owner, reserve=None), folder)) as finder:
            finder.adopt()
        spools = _begin(folder, path, owner, reserve_bytes)
    if spools is None:
        extra = {"event.action": "spool.in_memory"}
        logger.critical("%s is full: this process keeps its spool in memory, lost at its end", directory, extra=extra)
        spools = Spools(folder.open(None, owner=owner, reserve=None), folder)
    spools.adopt()
    return spools


def _begin(folder: _Folder, path: Path, owner: str, reserve_bytes: int) -> Spools | None:
    """The process's own file; None where the disk is full."""
    reserve = Reserve(reserve_path(path), reserve_bytes)
    try:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_strangers(folder.path)
        with ExitStack() as undo:
            lock = _own_lock(path)
            undo.callback(lock.release, remove=True)
            undo.callback(_remove, path)
            own = folder.open(path, owner=owner, reserve=reserve)
            undo.pop_all()
    except (OSError, SpoolFull) as error:
        if not is_full(error):
            raise SpoolUnusable((_explain(folder.path, error),)) from error
        return None
    reserve.make()
    return Spools(own, folder, lock=lock, reserve=reserve)


def _close_to_strangers(folder: Path) -> None:
    """Take the right to write from users that have no business here, or raise SpoolUnusable.

    A folder of root, as orchestrators mount volumes, is only reported: this process cannot change it, and in its
    container it is alone.
    """
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not mode & stat.S_IWOTH:
        return
    if found.st_uid == os.geteuid():
        folder.chmod(0o700)
        text = f"{folder} could be written by every user ({mode:04o}): it is 0700 now"
    elif found.st_uid == 0:
        text = f"{folder} can be written by every user ({mode:04o}); chmod it to 0700 and give it to this user"
    else:
        why = f"every user can write to it ({mode:04o}), and user {found.st_uid} owns it"
        raise SpoolUnusable(
            (f"CONTAINER_SPOOL_DIR  {folder}: {why}; give it to this user and chmod it to 0700  [SPL002]",)
        )
    logger.warning("%s", text, extra={"event.action": "spool.folder_open"})


def _is_plain(path: Path) -> bool:
    """Whether it is a file of its own: a link may lead to what is not ours to change."""
    if path.is_symlink():
        logger.debug("%s is a link and is left alone", path)
        return False
    return path.is_file()


def _own_lock(path: Path) -> OwnerLock:
    never = threading.Event()
    for _ in range(_LOCK_TRIES):
        lock = try_lock(path)
        if lock is not None:
            return lock
        pause(never, 0.05)
    raise SpoolUnusable((f"CONTAINER_SPOOL_DIR  {path.name} belongs to another process that runs  [SPL002]",))


def _begun_at(spool: Spool) -> float:
    return float(spool.about.get("begun_at", "0"))


def _safe(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", part)


def _remove(path: Path) -> None:
    for each in (path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"), reserve_path(path), path):
        each.unlink(missing_ok=True)


def _explain(directory: Path, error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return (
        f"CONTAINER_SPOOL_DIR  {directory} cannot be written by user {os.geteuid()}: {why}; mount a volume there that"
        " this user owns, or unset the variable to keep the spool in memory  [SPL002]"
    )
