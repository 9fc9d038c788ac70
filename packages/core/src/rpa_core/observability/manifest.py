"""The manifest of log files: which files under one name were made here, and their places when they are rotated.

`.<name>.rpa-log` holds, for each file, its inode and the token that is in the file's first line: a file that has both
is one that was made here. Any other file is left alone, whatever it is called: it is neither continued, nor moved, nor
replaced, nor deleted. The manifest is locked by the process that writes.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import re
import secrets
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SUFFIX = ".rpa-log"
_KIND = "rpa log files"
_LONGEST = 16 * 1024


class Manifest:
    """Which files under one name were made here; locked while this object is open. Raises OSError."""

    def __init__(self, path: Path, name: str, descriptor: int, made: dict[str, int]) -> None:
        self.path = path
        self.current = path.with_name(f"{name}.log")
        self._name = name
        self._descriptor = descriptor
        self._made = made  # token -> inode, in the order of making

    @classmethod
    def take(cls, folder: Path, name: str, *, create: bool = True) -> Manifest | None:
        """The manifest of a name, or None: somebody else has it, or the file under its name is not one."""
        path = folder / f".{name}{SUFFIX}"
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
        try:
            descriptor = os.open(path, flags, 0o640)
        except OSError:
            if not create or os.path.lexists(path):  # a link, a folder, a file of another user
                return None
            raise
        try:
            made = _read_manifest(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if made is None:
            os.close(descriptor)
            return None
        return cls(path, name, descriptor, made)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)

    def proves(self, path: Path) -> bool:
        """Whether the file was made here: by its inode, and by the token in its first line."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return False
            head = os.read(descriptor, 1024)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return any(inode == found.st_ino and token.encode() in head for token, inode in self._made.items())

    def create(self, path: Path) -> int:
        """Make a new file with its first line, provable; returns it open for appending."""
        token = secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o640)
        try:
            write_all(descriptor, line("log file begun", "log.file_begun", file=token))
            self._note(token, os.fstat(descriptor).st_ino)
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        return descriptor

    def rotate(self, backups: int) -> int:
        """Move each file on by one, delete the last one, begin a new one; returns it open for appending."""
        fresh = self.current.with_name(f"{self._name}.log.new")
        if self.proves(fresh):  # of a process that died here
            fresh.unlink()
        descriptor = self.create(fresh)
        try:
            # A foreign file keeps its place: ours go around it.
            numbered = (self._numbered(number) for number in itertools.count(1))
            places = list(itertools.islice((p for p in numbered if not os.path.lexists(p) or self.proves(p)), backups))
            there = [os.path.lexists(place) for place in places]
            last = there.index(False) if False in there else backups - 1
            for number in range(last, 0, -1):
                places[number - 1].rename(places[number])
            self.current.rename(places[0])
            fresh.rename(self.current)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def rotated(self) -> list[Path]:
        """What was rotated away and is ours, oldest first."""
        named = re.compile(re.escape(self._name) + r"\.log\.[0-9]+")
        found = [path for path in self.path.parent.iterdir() if named.fullmatch(path.name) and self.proves(path)]
        return sorted(found, key=lambda path: -int(path.name.rpartition(".")[2]))

    def remove_oldest(self) -> int | None:
        """Delete the oldest rotated file; its bytes, or None where there is none."""
        for path in self.rotated():
            size = path.lstat().st_blocks * 512
            path.unlink()
            return size
        return None

    def _numbered(self, number: int) -> Path:
        return self.current.with_name(f"{self._name}.log.{number}")

    def _note(self, token: str, inode: int) -> None:
        """In place and of one size: that takes no new space on a full disk."""
        alive = {path.lstat().st_ino for path in (*self.rotated(), self.current) if os.path.lexists(path)}
        made = {old: at for old, at in self._made.items() if at in alive and at != inode} | {token: inode}
        text = json.dumps({"kind": _KIND, "made": made}).encode()
        written = os.pwrite(self._descriptor, text.ljust(os.fstat(self._descriptor).st_size or 4096), 0)
        if written < len(text):
            raise OSError(errno.ENOSPC, "the manifest was written in part", str(self.path))
        self._made = made


def _read_manifest(descriptor: int) -> dict[str, int] | None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    text = os.pread(descriptor, _LONGEST, 0)
    if not text:
        return {}
    try:
        content: Any = json.loads(text)
        sound = content["kind"] == _KIND and all(isinstance(inode, int) for inode in content["made"].values())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return dict(content["made"]) if sound else None


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it. Raises OSError, with a part written."""
    while data:
        data = data[os.write(descriptor, data) :]


def line(message: str, action: str, *, level: str = "info", **more: Any) -> bytes:
    """A line as the log has them, with its end."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    named = {f"rpa.log.{name}": value for name, value in more.items()}
    fields = {"@timestamp": now, "log.level": level, "message": message, "event.action": action, **named}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
