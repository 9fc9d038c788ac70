"""Which ports the workers of this machine listen on, where no variable says so: written by them, read by `rpa health`.

One small file for each worker, in a folder of this user's below the folder for temporary files, locked for as long as
the worker runs: what a killed worker leaves is found unlocked and removed. Imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_MOST_BYTES = 1024


class Announced(NamedTuple):
    """A worker that runs, its flow and the port of its probes."""

    pid: int
    flow: str
    port: int


def announce(flow: str, port: int, folder: Path | None = None) -> Callable[[], None]:
    """Write it down until what is returned is called. Where that cannot be done, `rpa health` needs the port given."""
    folder = folder or _folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_own(folder):
            return lambda: None
        path = folder / f"{os.getpid()}-{port}.json"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return lambda: None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, json.dumps(Announced(os.getpid(), flow, port)).encode())

    def withdraw() -> None:
        path.unlink(missing_ok=True)
        os.close(descriptor)

    return withdraw


def announced(folder: Path | None = None) -> list[Announced]:
    """The workers of this user that run, by port."""
    folder = folder or _folder()
    with contextlib.suppress(OSError):
        if _is_own(folder):
            return sorted(_running(folder), key=lambda each: each.port)
    return []


def _running(folder: Path) -> Iterator[Announced]:
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)  # nothing holds it: its worker is gone
            except BlockingIOError:
                with contextlib.suppress(ValueError, TypeError):
                    pid, flow, port = json.loads(os.read(descriptor, _MOST_BYTES))
                    yield Announced(int(pid), str(flow), int(port))
            finally:
                os.close(descriptor)


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"rpa-{os.geteuid()}-ports"


def _is_own(folder: Path) -> bool:
    """Whether it is a folder of this user that others cannot write to: /tmp is everyone's."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
