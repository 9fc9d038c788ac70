"""What was read before, so that an unchanged file is not read again: `.rpa/contents.json`, safe to delete at any time.

A file's digest is kept under its stat data (size, mtime, ctime, inode, mode), as git's index does; ctime is what a
restored mtime cannot hide. Timestamps are coarse: a file that changed less than two seconds before it was read could
change again without showing it, so its digest is not kept. "Before" is by the clock of the file system itself.
What was derived from a content (imports, slices) is kept under the content's digest.

The file carries a hash of itself and is replaced whole; one that is torn, foreign or old is as good as none.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ci.errors import ToolError
from ci.images import digests

PLACE = ".rpa/contents.json"
_VERSION = f"1 {sys.version_info.major}.{sys.version_info.minor}"  # another Python parses other files
_RACY_NS = 2_000_000_000
_MOST = 20_000  # remembered files; beyond it, those that were not asked for are forgotten
_TRIES = 5


class Remembered:
    """The digests of this moment: within one instance, a file is looked at once."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._place = root / PLACE
        self._stat_is_sound = os.name == "posix"  # elsewhere st_ctime is when a file was made
        loaded = self._load()
        self._files: dict[str, list[Any]] = loaded.get("files", {})
        self._derived: dict[str, Any] = loaded.get("derived", {})
        self._now = dict[str, tuple[str, bool]]()
        self._used = set[str]()
        self._clock_ns: int | None = None
        self._dirty = False

    def file(self, path: str) -> tuple[str, bool]:
        """(digest, executable) of a regular file; `path` is relative to the workspace's root."""
        if path not in self._now:
            self._now[path] = self._file(path)
        return self._now[path]

    def derived(self, kind: str, path: str, make: Callable[[bytes], Any]) -> Any:
        """`make` of a file's content, as JSON has it. `kind` names the computation and all its parameters."""
        key = f"{kind} {self.file(path)[0]}"
        self._used.add(key)
        if key not in self._derived:
            data, digest, executable = self._read(path)
            self._now[path] = (digest, executable)  # what was derived and what goes in are one content
            key = f"{kind} {digest}"
            self._used.add(key)
            self._derived[key] = json.loads(json.dumps(make(data)))
            self._dirty = True
        return self._derived[key]

    def _file(self, path: str) -> tuple[str, bool]:
        try:
            state = os.lstat(f"{self._root}/{path}")
        except OSError as error:
            raise _unreadable(path, error) from error
        known = self._files.get(path)
        if known and known[1:] == _identity(state) and self._stat_is_sound:
            return known[0], bool(state.st_mode & stat.S_IXUSR)
        _, digest, executable = self._read(path)
        return digest, executable

    def _read(self, path: str) -> tuple[bytes, str, bool]:
        """A content that did not change while it was read."""
        before_ns = self._file_system_clock_ns()
        for _ in range(_TRIES):
            try:
                descriptor = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor: not through a link, not a pipe
                    first = os.fstat(descriptor)
                    if not stat.S_ISREG(first.st_mode):
                        raise ToolError(f"{path}: is no regular file; no image can hold it")
                    data = file.read()
                    last = os.fstat(descriptor)
            except OSError as error:
                raise _unreadable(path, error) from error
            if _identity(first) == _identity(last) and len(data) == last.st_size:
                break
        else:
            raise ToolError(f"{path}: changes all the time; wait for what writes it, then build")
        digest = digests.of_bytes(data)
        settled = max(last.st_mtime_ns, last.st_ctime_ns) < before_ns - _RACY_NS
        if settled and self._stat_is_sound:
            self._files[path] = [digest, *_identity(last)]
            self._dirty = True
        elif self._files.pop(path, None):
            self._dirty = True
        return data, digest, bool(last.st_mode & stat.S_IXUSR)

    def _file_system_clock_ns(self) -> int:
        """The time that the file system would stamp now, taken before anything is read; 0 where it cannot be had."""
        if self._clock_ns is None:
            probe = self._place.with_name(f"clock.{os.getpid()}")
            try:
                self._place.parent.mkdir(exist_ok=True)
                probe.unlink(missing_ok=True)
                probe.touch()
                self._clock_ns = probe.stat().st_mtime_ns
                probe.unlink()
            except OSError:
                self._clock_ns = 0
        return self._clock_ns

    def save(self) -> None:
        """Replace the file, if there is anything new. Where it cannot be written, nothing is remembered."""
        if not self._dirty:
            return
        if len(self._files) + len(self._derived) > _MOST:
            self._files = {path: self._files[path] for path in self._now if path in self._files}
            self._derived = {key: self._derived[key] for key in self._used if key in self._derived}
        body = json.dumps({"files": self._files, "derived": self._derived}, separators=(",", ":"))
        fresh = self._place.with_name(f"{self._place.name}.{os.getpid()}")
        with suppress(OSError):
            self._place.parent.mkdir(exist_ok=True)
            fresh.write_text(f"{_VERSION} {_seal(body)}\n{body}", encoding="ascii")
            fresh.replace(self._place)
        self._dirty = False

    def _load(self) -> dict[str, Any]:
        try:
            head, _, body = self._place.read_bytes().decode("ascii").partition("\n")
        except (OSError, ValueError):
            return {}
        if head != f"{_VERSION} {_seal(body)}":
            return {}
        loaded = json.loads(body)
        return loaded if isinstance(loaded, dict) else {}


def _identity(state: os.stat_result) -> list[int]:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_mode]


def _seal(body: str) -> str:
    return hashlib.blake2b(body.encode("ascii"), digest_size=16, person=b"remembered").hexdigest()


def _unreadable(path: str, error: OSError) -> ToolError:
    if error.errno == errno.ELOOP:
        return ToolError(f"{path}: is a symbolic link where a file is needed; put the file there")
    return ToolError(f"{path}: cannot be read: {error.strerror or error}; it belongs to an image")
