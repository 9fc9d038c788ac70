"""What this process uses, read from `/proc` and the cgroup."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rpa_core.clock import Clock
from rpa_core.health.model import ResourceStatus

_MIB = 1024 * 1024
_TCP = ("tcp", "tcp6")


class ResourceReader:
    """Reads usage on demand; CPU is the mean since the reading before (the first: since this object was made)."""

    def __init__(
        self,
        clock: Clock,
        *,
        proc: Path = Path("/proc/self"),
        disk: Path = Path("/tmp"),  # noqa: S108 - only asked how full it is
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._proc = proc
        self._disk = disk
        self._cpu_s = cpu_s
        self._lock = threading.Lock()
        self._last = (clock.monotonic(), cpu_s())

    def read(self) -> ResourceStatus:
        """One reading. What this platform does not tell is 0."""
        from rpa_core.config.cgroup import memory_usage_bytes, read_limits

        limit = read_limits().memory_bytes or 0
        used = (memory_usage_bytes() if limit else None) or resident_bytes(self._proc)
        return ResourceStatus(
            cpu_usage_percent=round(self._cpu_percent(), 1),
            memory_usage_mb=round(used / _MIB, 1),
            memory_limit_mb=round(limit / _MIB, 1),
            disk_usage_mb=round(self._disk_used_bytes() / _MIB, 1),
            network_connections=self._connections(),
        )

    def _cpu_percent(self) -> float:
        now, used = self._clock.monotonic(), self._cpu_s()
        with self._lock:
            then, before = self._last
            self._last = (now, used)
        return 100.0 * (used - before) / (now - then) if now > then else 0.0

    def _disk_used_bytes(self) -> int:
        try:
            stat = os.statvfs(self._disk)
        except OSError:  # no such directory in this image
            return 0
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def _connections(self) -> int:
        """Open sockets of this process that are TCP connections in use, listening ones not counted."""
        inodes = set()
        try:
            for entry in (self._proc / "fd").iterdir():
                target = _link(entry)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except OSError:  # not Linux
            return 0
        return sum(1 for inode in self._established() if inode in inodes)

    def _established(self) -> list[str]:
        found: list[str] = []
        for name in _TCP:
            try:
                lines = (self._proc / "net" / name).read_text().splitlines()[1:]
            except OSError:  # no IPv6
                continue
            fields = (line.split() for line in lines)
            found += [row[9] for row in fields if len(row) > 9 and row[3] == "01"]
        return found


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # closed in between
        return ""


def resident_bytes(proc: Path = Path("/proc/self")) -> int:
    """Memory of this process alone; 0 where the platform does not report it."""
    try:
        return int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
