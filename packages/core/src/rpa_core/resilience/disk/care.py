"""DiskCare: looks at the file systems that are written to, cleans, and says when there is too little room."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rpa_core.resilience.disk.space import Marks, Space, device_of, look, one_each
from rpa_core.waits import pause

logger = logging.getLogger("rpa.disk")


class Cleaner(Protocol):
    """Knows what may be deleted in one folder."""

    folder: Path

    def clean(self) -> Iterator[int]:
        """Delete one thing after the other, oldest first; yields the bytes of each. May raise OSError."""
        ...


class Told(Protocol):
    """Whoever hears of what is seen; called from the care's own thread."""

    def seen(self, space: Space) -> object:
        """At every look."""
        ...

    def cleaned(self, size_bytes: int) -> object:
        """Something was deleted."""
        ...

    def low(self, space: Space, needed_bytes: float) -> object:
        """There is too little room, and nothing left to delete. Once, until there is room again."""
        ...

    def room(self, space: Space) -> object:
        """There is room again."""
        ...


class DiskCare:
    """One thread. The file systems of `paths` are watched, each once; `cleaners` delete what is on a low one.

    A path that is read-only from the beginning is not written to, and not watched.
    """

    def __init__(
        self, paths: Sequence[Path], *, marks: Marks, cleaners: Sequence[Cleaner], told: Told, interval_s: float
    ) -> None:
        self._marks = marks
        self._cleaners = cleaners
        self._told = told
        self._interval_s = interval_s
        self._paths = [path for path in one_each(paths) if _may_be_written(path)]
        self._low: set[Path] = set()
        self._silent: set[Path] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-care", daemon=True)

    @property
    def paths(self) -> Sequence[Path]:
        """What is watched, one path of each file system."""
        return tuple(self._paths)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Look at every file system once, and do what is to be done; never raises."""
        for path in self._paths:
            try:
                self._look_at(path)
                self._silent.discard(path)
            except Exception as error:  # noqa: BLE001 - work goes on; the next look may go well
                if path not in self._silent:
                    self._silent.add(path)
                    logger.error("%s cannot be looked after: %s", path, error, extra={"event.action": "disk.failed"})

    def _run(self) -> None:
        while True:
            self.look()
            if pause(self._stop, self._interval_s):
                return

    def _look_at(self, path: Path) -> None:
        was_low = path in self._low
        space = look(path)
        if self._marks.is_low(space, was_low=was_low):
            space = self._clean(path, space)
        self._told.seen(space)
        low = self._marks.is_low(space, was_low=was_low)
        if low and not was_low:
            self._low.add(path)
            self._told.low(space, self._marks.low_bytes(space.size_bytes))
        elif was_low and not low:
            self._low.discard(path)
            self._told.room(space)

    def _clean(self, path: Path, space: Space) -> Space:
        """Delete, oldest first, until there is room to go on with or nothing is left that may go."""
        device = device_of(path)
        for cleaner in self._cleaners:
            if space.read_only or device_of(cleaner.folder) != device:
                continue
            try:
                for freed in cleaner.clean():
                    self._told.cleaned(freed)
                    space = look(path)
                    if not self._marks.is_low(space, was_low=True):
                        return space
            except OSError as error:
                logger.warning("%s is not cleaned: %s", cleaner.folder, error, extra={"event.action": "disk.failed"})
        return look(path)


def _may_be_written(path: Path) -> bool:
    try:
        return not look(path).read_only
    except OSError:
        return False
