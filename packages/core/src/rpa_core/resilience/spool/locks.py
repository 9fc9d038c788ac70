"""The lock that says that a spool's owner lives.

A file of its own beside the spool: the kernel lets go of it when the process is gone, whatever ended it, and a process
that is merely stopped keeps it. It is not the spool's own file, because closing any descriptor of that would drop the
locks by which SQLite keeps its readers and writers apart (fcntl(2), "Advisory record locking").
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK_SUFFIX = ".spool-lock"


class OwnerLock:
    """Held until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def release(self, *, remove: bool = False) -> None:
        """Let go; `remove` deletes the file first, so that nobody locks one that is on its way out."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def lock_path(spool: Path) -> Path:
    """Where the lock of a spool is."""
    return spool.with_name(spool.name.removesuffix(".spool") + LOCK_SUFFIX)


def try_lock(spool: Path) -> OwnerLock | None:
    """The lock of a spool, or None while somebody else has it. Raises OSError."""
    path = lock_path(spool)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            return OwnerLock(path, descriptor)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_locked(spool: Path) -> bool:
    """Whether the owner of a spool lives. Raises OSError."""
    try:
        descriptor = os.open(lock_path(spool), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the locked file is still the one under its name, and not one that was removed meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
