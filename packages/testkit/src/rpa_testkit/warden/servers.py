"""Embedded PostgreSQL servers of a run.

A server's processes carry no mark, for they start with a clean environment; their guardian may. Nobody stops a server
as well as its guardian does when its owner is gone, so it is left alone for a while; only then is its server taken down
from here.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rpa_testkit.waits import WaitTimeoutError, until
from rpa_testkit.warden.processes import Marked, kill, send, started

_GUARDIAN = Path("rpa_testkit") / "guardian.py"
_QUIT_S = 2.0


def guardians(processes: Sequence[Marked]) -> list[Marked]:
    """Those that guard a server."""
    return [process for process in processes if _home(process) is not None]


def protected(processes: Sequence[Marked]) -> set[int]:
    """The pids of guardians and of what they have started in order to stop a server."""
    safe = {process.pid for process in guardians(processes)}
    while more := {process.pid for process in processes if process.parent in safe} - safe:
        safe |= more
    return safe


def take_down(guardian: Marked) -> None:
    """End the guardian, then its server, and remove its data unless it is to be kept."""
    home = _home(guardian)
    assert home is not None
    kill(guardian)
    postmaster = _postmaster(home / "data")
    since = started(postmaster) if postmaster is not None else None
    if postmaster is not None and since is not None:
        send(postmaster, since, signal.SIGCONT)
        send(postmaster, since, signal.SIGQUIT)
        with suppress(WaitTimeoutError):
            until(lambda: started(postmaster) != since, _QUIT_S, "the server to end")
        send(postmaster, since, signal.SIGKILL)
    if "keep" not in guardian.argv:
        shutil.rmtree(home, ignore_errors=True)


def _home(process: Marked) -> Path | None:
    for script, home in zip(process.argv, process.argv[1:], strict=False):
        if Path(script).parts[-2:] == _GUARDIAN.parts:
            return Path(home)
    return None


def _postmaster(data: Path) -> int | None:
    """Of the server that runs in this folder and nowhere else."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        return pid if Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve() else None
    except (OSError, ValueError):
        return None
