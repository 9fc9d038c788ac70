"""A small disk for one process: a tmpfs in a mount namespace of its own, which its TMPDIR points to.

Root needs nothing for it; others need user namespaces, which some systems forbid. From outside the folder is reached
through /proc/PID/root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.warden.undo import Remove

_SIZE = "16m"
_BALLAST = ".testkit-ballast"
_BLOCK = bytes(256 << 10)
_MOUNT = f'mount -t tmpfs -o size={_SIZE},mode=1777 tmpfs "$0" && exec "$@"'
_NOT_HERE = "a process shares its disk with the machine: use the docker driver"


class SmallDisk:
    """Mounted at `folder` by the process itself, anew at each of its starts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()

    def argv(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The same program, with the disk."""
        return (*_command(), "sh", "-c", _MOUNT, str(self._folder), *argv)

    def environment(self) -> Mapping[str, str]:
        """What points to it."""
        return {"TMPDIR": str(self._folder)}

    def fill(self, pid: int) -> None:
        """Write until a write fails with ENOSPC."""
        with suppress(OSError), open(self._ballast(pid), "ab", buffering=0) as file:  # noqa: PTH123 - in another root
            while True:
                file.write(_BLOCK)
        if self.free_bytes(pid) > len(_BLOCK):
            raise NotPossible(f"{self._folder} of process {pid} did not fill up")
        with suppress(OSError), open(self._ballast(pid), "ab", buffering=0) as file:  # noqa: PTH123 - the last pages
            while file.write(bytes(4096)):
                pass

    def give_back(self, pid: int) -> None:
        """Remove what `fill` wrote; a process that has ended has taken it along."""
        with suppress(FileNotFoundError, ProcessLookupError):
            os.unlink(self._ballast(pid))  # noqa: PTH108 - in another root

    def free_bytes(self, pid: int) -> int:
        """What can still be written."""
        told = os.statvfs(f"/proc/{pid}/root{self._folder}")
        return told.f_bavail * told.f_frsize

    def undo(self, pid: int) -> Remove:
        """The same as `give_back`."""
        return Remove(path=self._ballast(pid))

    def _ballast(self, pid: int) -> str:
        return f"/proc/{pid}/root{self._folder}/{_BALLAST}"


def small_disk(folder: Path) -> SmallDisk:
    """NotPossible where no process can have one."""
    if not _possible():
        raise NotPossible(_NOT_HERE)
    return SmallDisk(folder)


def _command() -> tuple[str, ...]:
    mine = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", "--mount", *mine, "--")


@cache
def _possible() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = [*_command(), "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /tmp"]
    return subprocess.run(tried, capture_output=True, timeout=20, check=False).returncode == 0
