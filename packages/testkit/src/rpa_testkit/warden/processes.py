"""Processes that carry a run's mark in their environment; no pid is trusted without its start time."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rpa_testkit.warden.mark import VARIABLE

_PROC = Path("/proc")
_SHOWN = 160  # characters of a command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A process of a run. `started` as in `started()`."""

    pid: int
    started: int
    parent: int
    run_id: str
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"process {self.pid} ({' '.join(self.argv)[:_SHOWN]})"


def started(pid: int) -> int | None:
    """When a process started: clock ticks since the machine did (milliseconds where there is no /proc); None: gone."""
    if _has_proc():
        fields = _stat(pid)
        return None if fields is None else int(fields[19])
    import psutil

    with suppress(psutil.Error):
        return int(psutil.Process(pid).create_time() * 1000)
    return None


def marked(run_ids: Collection[str]) -> list[Marked]:
    """All processes of these runs that can be seen, stopped ones too; not this one, and none that has ended."""
    found = _on_linux(run_ids) if _has_proc() else _elsewhere(run_ids)
    return [process for process in found if process.pid != os.getpid()]


def send(pid: int, since: int, number: signal.Signals) -> bool:
    """Signal the process that started at `since`; False if it is gone, whoever has its pid now."""
    with suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            if started(pid) != since:
                return False
            os.kill(pid, number)
            return True
        descriptor = os.pidfd_open(pid)  # from here on the pid cannot become another process's
        try:
            if started(pid) != since:
                return False
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
        return True
    return False


def kill(process: Marked) -> bool:
    """SIGKILL, a stopped process too; False if it has ended by itself."""
    if not send(process.pid, process.started, signal.SIGKILL):
        return False
    send(process.pid, process.started, signal.SIGCONT)
    return True


def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


def _on_linux(run_ids: Collection[str]) -> Iterator[Marked]:
    wanted = {f"{VARIABLE}={run_id}".encode(): run_id for run_id in run_ids}
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        pid = int(folder.name)
        with suppress(OSError):  # ended, or another account's
            environment = (folder / "environ").read_bytes()
            if not any(mark in environment for mark in wanted):
                continue
            run_id = next((wanted[entry] for entry in environment.split(b"\0") if entry in wanted), None)
            fields = _stat(pid)
            if run_id is None or fields is None:
                continue
            argv = tuple((folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
            yield Marked(pid=pid, started=int(fields[19]), parent=int(fields[1]), run_id=run_id, argv=argv)


def _elsewhere(run_ids: Collection[str]) -> Iterator[Marked]:
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            run_id = process.environ().get(VARIABLE)
            since = started(process.pid)
            if run_id is None or run_id not in run_ids or since is None:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                argv = tuple(process.cmdline())
                yield Marked(pid=process.pid, started=since, parent=process.ppid(), run_id=run_id, argv=argv)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on; None if there is no such process, or a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields
