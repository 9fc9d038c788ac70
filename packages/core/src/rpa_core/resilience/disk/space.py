"""How much room a file system has, and when that is too little."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LOW_CAP_BYTES = 1024**3  # a tenth of a large disk is more than anybody needs
_RESUME_CAP_BYTES = 3 * 1024**3 // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A file system as it stands, named after the first path on it. `free_bytes` is what this user may still write."""

    path: Path
    size_bytes: int
    free_bytes: int
    read_only: bool = False

    @property
    def free_ratio(self) -> float:
        """0 to 1."""
        return self.free_bytes / self.size_bytes if self.size_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Shares of a file system; of a large one, 1 GiB is enough, and 1.5 GiB to go on."""

    low_ratio: float
    resume_ratio: float

    def low_bytes(self, size_bytes: int) -> float:
        """Less than that is too little."""
        return min(self.low_ratio * size_bytes, _LOW_CAP_BYTES)

    def resume_bytes(self, size_bytes: int) -> float:
        """So much is enough again."""
        return max(min(self.resume_ratio * size_bytes, _RESUME_CAP_BYTES), self.low_bytes(size_bytes))

    def is_low(self, space: Space, *, was_low: bool) -> bool:
        """Between the marks it stays as it was."""
        if space.read_only:
            return True
        mark = self.resume_bytes if was_low else self.low_bytes
        return space.free_bytes < mark(space.size_bytes)


def look(path: Path) -> Space:
    """Ask the kernel. Raises OSError."""
    found = os.statvfs(path)
    usable = found.f_blocks - found.f_bfree + found.f_bavail  # without what is kept for root, as df counts
    return Space(
        path=path,
        size_bytes=usable * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def one_each(paths: Iterable[Path]) -> list[Path]:
    """The first path of each file system; those that are not there are left out."""
    found: dict[int, Path] = {}
    for path in paths:
        device = device_of(path)
        if device is not None:
            found.setdefault(device, path)
    return list(found.values())


def device_of(path: Path) -> int | None:
    """The file system that a path is on; None if there is no such path."""
    try:
        return path.stat().st_dev
    except OSError:
        return None
