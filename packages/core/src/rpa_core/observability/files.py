"""Rotated copies of the log in a folder: `<name>.log`, `<name>.log.1` (newest) to `<name>.log.<backups>`.

A disk that takes nothing drops lines and counts them; the first line after that says how many.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rpa_core.observability.manifest import SUFFIX, Manifest, line, write_all

_MIB = 1024 * 1024
_NAMES = 9  # of processes that would like the same one
_AGAIN_S = 1.0


class LogFiles:
    """A stream for whole lines. No method raises OSError; `dropped` counts lines, `error` is the last thing wrong.

    Where another process writes under `name`, or something else lies there, it is `<name>-2` and so on.
    """

    def __init__(self, folder: Path, name: str, *, max_bytes: int = 10 * _MIB, backups: int = 5) -> None:
        self.dropped = 0
        self.error: OSError | None = None
        self._folder = folder
        self._name = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)
        self._max_bytes = max_bytes
        self._backups = backups
        self._lock = threading.Lock()
        self._manifest: Manifest | None = None
        self._file: int | None = None
        self._size = 0
        self._told = 0
        self._not_before = 0.0
        with self._lock:
            self._try_open()

    @property
    def path(self) -> Path | None:
        """The file that is written; None while there is none."""
        return self._manifest.current if self._manifest is not None else None

    def write(self, text: str) -> None:
        """Append lines, each with its end, whole or not at all."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            if self._file is not None and not self._is_there():
                self._let_go()
            if self._file is None:
                self._try_open()
            if self._file is not None and self._size + len(data) > self._max_bytes:
                self._try_rotate()
            if self._file is None or not self._append(data):
                self.dropped += text.count("\n")

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Let go of files and name."""
        with self._lock:
            self._let_go()

    def remove_oldest(self) -> int | None:
        """Delete the oldest rotated file; its bytes, or None where there is none."""
        with self._lock:
            return self._manifest.remove_oldest() if self._manifest is not None else None

    def owns(self, manifest: Path) -> bool:
        """Whether it is this stream's."""
        return self._manifest is not None and self._manifest.path == manifest

    def _append(self, data: bytes) -> bool:
        assert self._file is not None
        lost = self.dropped - self._told
        if lost:
            words = f"{lost} log lines were dropped: the disk took nothing"
            data = line(words, "log.dropped", level="warning", dropped=lost) + data
        try:
            write_all(self._file, data)
        except OSError as error:
            self.error = error
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # no half line
            return False
        self._size += len(data)
        self._told += lost
        return True

    def _is_there(self) -> bool:
        """Whether the open file is still the one under its name, and not one that somebody moved away."""
        assert self._manifest is not None
        assert self._file is not None
        try:
            return os.path.samestat(self._manifest.current.lstat(), os.fstat(self._file))
        except OSError:
            return False

    def _try_open(self) -> None:
        now = time.monotonic()
        if now < self._not_before:
            return
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._open()
            self.error = None
        except OSError as error:
            self.error = error
            self._not_before = now + _AGAIN_S

    def _open(self) -> None:
        for name in (self._name, *(f"{self._name}-{number}" for number in range(2, _NAMES + 1))):
            manifest = Manifest.take(self._folder, name)
            if manifest is None:
                continue
            try:
                if not os.path.lexists(manifest.current):
                    self._file = manifest.create(manifest.current)
                elif manifest.proves(manifest.current):
                    self._file = os.open(manifest.current, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                manifest.close()
                raise
            if self._file is not None:
                self._manifest, self._size = manifest, os.fstat(self._file).st_size
                return
            manifest.close()
        raise FileExistsError(0, "other files or processes have every name", str(self._folder / self._name))

    def _try_rotate(self) -> None:
        assert self._manifest is not None
        now = time.monotonic()
        if now < self._not_before:
            return
        try:
            fresh = self._manifest.rotate(self._backups)
        except OSError as error:
            self.error = error
            self._not_before = now + _AGAIN_S
            return
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = fresh, os.fstat(fresh).st_size

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
        if self._manifest is not None:
            self._manifest.close()
        self._file = self._manifest = None


class OldLogs:
    """Deletes rotated files, never one that is being written: those of this process, and of processes that are dead."""

    def __init__(self, folder: Path, own: LogFiles | None) -> None:
        self.folder = folder
        self._own = own

    def clean(self) -> Iterator[int]:
        """One file after the other, oldest of each first; yields the bytes of each. Raises OSError."""
        for path in sorted(self.folder.glob(f".*{SUFFIX}")):
            name = path.name[1:].removesuffix(SUFFIX)
            if self._own is not None and self._own.owns(path):
                continue
            manifest = Manifest.take(self.folder, name, create=False)
            if manifest is None:
                continue
            try:
                while (freed := manifest.remove_oldest()) is not None:
                    yield freed
            finally:
                manifest.close()
        while self._own is not None and (freed := self._own.remove_oldest()) is not None:
            yield freed
