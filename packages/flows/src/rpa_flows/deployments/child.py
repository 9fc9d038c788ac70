"""A worker process: its lines as they come, a drain when it is time, and a certain end."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

_LINES = 1000  # lines that wait to be taken over; beyond that the worker waits
_OURS = "CONTAINER_PREFECT_"


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the worker gets: the environment of Prefect's worker, except that it reports to nobody.

    Lines are JSON, to be told apart; the probes take any free port unless one is asked for, because several runs may
    share a machine.
    """
    kept = {name: value for name, value in given.items() if not name.startswith(_OURS)}
    kept.setdefault("CONTAINER_HEALTH_PORT", "0")
    return {**kept, "CONTAINER_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}


def run(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    take: Callable[[str], object],
    most_s: float | None = None,
    grace_s: float,
) -> int:
    """Run a worker to its end; returns its exit code, negative for a signal.

    Every line goes to `take`, in the calling thread. After `most_s` seconds it is told to drain. Whatever is raised
    meanwhile (Prefect's TerminationSignal, KeyboardInterrupt) tells it the same and is raised again after its end. One
    that has not drained within `grace_s` seconds is killed. Call it in the main thread: signals are raised there, and
    the death of the thread that starts a process counts as the death of its parent.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, every exit code would read as 0
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.leash", str(os.getpid()), *command],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a second SIGTERM would end it at once: it shall get ours alone
        text=True,
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue(_LINES)
    reader = threading.Thread(target=_read, args=(process, lines), name="worker-lines", daemon=True)
    reader.start()
    try:
        if not _hear(lines, take, most_s):
            _end(process, lines, take, grace_s)
    except BaseException:
        _end(process, lines, take, grace_s)
        raise
    return process.wait()


def _end(
    process: subprocess.Popen[str], lines: queue.Queue[str | None], take: Callable[[str], object], grace_s: float
) -> None:
    """Told to drain; and killed if it does not."""
    process.terminate()
    try:
        if not _hear(lines, take, grace_s):
            process.kill()
            _hear(lines, lambda _: None, grace_s)
    finally:
        process.kill()  # for whoever is interrupted once more; a process that has ended takes no notice
        process.wait()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _hear(lines: queue.Queue[str | None], take: Callable[[str], object], most_s: float | None) -> bool:
    """Take lines over until there are no more; False after `most_s` seconds."""
    until = None if most_s is None else time.monotonic() + most_s
    while True:
        left_s = None if until is None else until - time.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        try:
            line = lines.get(timeout=left_s)
        except queue.Empty:
            return False
        if line is None:
            return True
        take(line)
