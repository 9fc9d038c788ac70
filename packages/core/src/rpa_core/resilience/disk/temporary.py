"""Temporary folders that can be told from everybody else's, also when their owner is dead.

`rpa-<flow>-<hex>` in the temporary folder, and in it a marker, locked for the owner's life, that names the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

logger = logging.getLogger("rpa.disk")
MARKER = ".rpa-owner"
_KIND = "rpa temporary folder"
_LONGEST = 4096


class TemporaryFolder:
    """A folder of this process. Raises OSError where it cannot be made."""

    def __init__(self, parent: Path, flow: str) -> None:
        name = f"{_prefix(flow)}{secrets.token_hex(8)}"
        self.path = parent / name
        self.path.mkdir(mode=0o700)
        unfinished = self.path / f"{MARKER}.new"
        self._descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.write(self._descriptor, json.dumps({"kind": _KIND, "folder": name}).encode())
        unfinished.rename(self.path / MARKER)  # under its name it is locked: nobody finds it without an owner

    def remove(self) -> None:
        """Delete it with all that is in it."""
        with contextlib.suppress(OSError):
            _remove(self.path)
        os.close(self._descriptor)


class OldTemporaries:
    """Deletes the temporary folders of dead owners of one flow."""

    def __init__(self, folder: Path, flow: str) -> None:
        self.folder = folder
        self._name = re.compile(re.escape(_prefix(flow)) + r"[0-9a-f]{16}")

    def clean(self) -> Iterator[int]:
        """One folder after the other, oldest first; yields the bytes that it held."""
        found = [path for path in self.folder.iterdir() if self._name.fullmatch(path.name)]
        for path in sorted(found, key=_changed_at):
            descriptor = _take(path)
            if descriptor is None:
                continue
            try:
                freed = _remove(path)
            except OSError as error:
                logger.warning("%s stays: %s", path, error, extra={"event.action": "disk.clean_failed"})
                continue
            finally:
                os.close(descriptor)
            logger.info("%s is deleted: its owner is dead", path, extra={"event.action": "disk.cleaned"})
            yield freed


def _prefix(flow: str) -> str:
    return f"rpa-{quote(flow, safe='')}-"


def _changed_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _take(path: Path) -> int | None:
    """The marker's descriptor, locked, where the folder is ours and its owner dead."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return None
        descriptor = os.open(path / MARKER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if json.loads(os.read(descriptor, _LONGEST)) == {"kind": _KIND, "folder": path.name}:
                return descriptor
    except (OSError, ValueError):
        pass
    os.close(descriptor)
    return None


def _remove(path: Path) -> int:
    """Delete a folder, its marker last: what is left by a crash can still be told. Never leaves its file system.

    No link is followed. Raises OSError, with the rest in place.
    """
    device = path.lstat().st_dev
    for _, folders, files, at in os.fwalk(path, follow_symlinks=False):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=at, follow_symlinks=False).st_dev != device:
                raise OSError(0, "something else is mounted in it", str(path))
    freed = 0
    for where, folders, files, at in os.fwalk(path, topdown=False, follow_symlinks=False):
        top = Path(where) == path
        for name in files:
            if not (top and name == MARKER):
                freed += _unlink(name, at)
        for name in folders:
            if stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                freed += _unlink(name, at)
            else:
                os.rmdir(name, dir_fd=at)
    (path / MARKER).unlink()
    path.rmdir()
    return freed


def _unlink(name: str, folder: int) -> int:
    size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
    os.unlink(name, dir_fd=folder)
    return size
