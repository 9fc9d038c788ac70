"""A file that does nothing but take up space, and gives it back when the disk is full."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

logger = logging.getLogger("rpa.spool")
RESERVE_SUFFIX = ".spool-reserve"


def reserve_path(spool: Path) -> Path:
    """Where the reserve of a spool is."""
    return spool.with_name(spool.name.removesuffix(".spool") + RESERVE_SUFFIX)


class Reserve:
    """`size_bytes` beside a spool; 0 keeps none."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._lock = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether the space is taken up now."""
        return self._path.is_file() and not self._path.is_symlink()

    def release(self) -> bool:
        """Give the space back; whether there was any."""
        with self._lock:
            try:
                self._path.unlink()
            except FileNotFoundError:
                return False
        logger.error(
            "the disk is full: the spool uses its reserve of %d bytes", self._size_bytes, extra=_event("reserve_used")
        )
        return True

    def make(self) -> bool:
        """Take the space up again where it is free twice over; whether it is held."""
        with self._lock:
            if self._size_bytes == 0 or self.held:
                return self.held
            space = os.statvfs(self._path.parent)
            if space.f_bavail * space.f_frsize < 2 * self._size_bytes:
                return False
            try:
                _allocate(self._path, self._size_bytes)
            except OSError as error:
                self._path.unlink(missing_ok=True)
                logger.warning("the spool has no reserve: %s", error, extra=_event("no_reserve"))
                return False
            return True

    def remove(self) -> None:
        """The spool is gone, or somebody else's who needs none."""
        self._path.unlink(missing_ok=True)


def _allocate(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def _event(action: str) -> dict[str, str]:
    return {"event.action": f"spool.{action}"}
