"""The end of the process: what a flow's code left behind does not hold it up.

Python waits for every thread that is not a daemon, for the threads of executors and for the children that
multiprocessing knows, each without an end. A worker that has drained and closed everything waits for them only within
CONTAINER_SHUTDOWN_TIMEOUT, says which they are, and ends.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")


class Ending:
    """How long what a flow left behind may hold up the end of the process.

    `begun` and `report` are for the worker; `enforce` for the program that is nothing but a worker. A host that calls
    `run_flow` enforces nothing.
    """

    def __init__(self) -> None:
        self._within_s: float | None = None
        self._threads = set(threading.enumerate())
        self._children = dict(_children())

    def report(self, within_s: float) -> None:
        """Log what is left, before the log is closed; the process may take `within_s` seconds from now."""
        self._within_s = within_s
        left = [_where(thread) for thread in threading.enumerate() if self._is_left(thread)]
        left += [f"process {number} ({name})" for number, name in _children() if number not in self._children]
        if left:
            logger.warning(
                "left behind by the flow, and waited for no longer than %.1f s: %s",
                within_s,
                "; ".join(left),
                extra={"event.action": "worker.left_behind"},
            )

    def enforce(self, code: int) -> None:
        """End the process with this exit code when the time is over; where it ends by itself, that is that."""
        within_s = self._within_s
        if within_s is not None:
            threading.Thread(target=self._end, args=(within_s, code), name="ending", daemon=True).start()

    def _is_left(self, thread: threading.Thread) -> bool:
        ours = thread.daemon or thread is threading.main_thread() or thread in self._threads
        return not ours and not _is_idle(_frame(thread))

    def _end(self, within_s: float, code: int) -> None:
        pause(threading.Event(), within_s)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.write(2, b"rpa: threads or processes that the flow left behind still run; ending without them\n")
        os._exit(code)


class ThreadsOfLoop(ThreadPoolExecutor):
    """An event loop's threads, for `asyncio.to_thread`: the loop closes without waiting for them."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As any executor's, but it never waits."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def _frame(thread: threading.Thread) -> FrameType | None:
    return sys._current_frames().get(thread.ident or 0)


def _is_idle(frame: FrameType | None) -> bool:
    """An executor's thread that waits for work: Python sends it home."""
    return frame is not None and frame.f_code.co_name == "_worker" and "concurrent" in frame.f_code.co_filename


def _where(thread: threading.Thread) -> str:
    """Its name, the outermost function that is not Python's own, and the line that it stands at."""
    frame = _frame(thread)
    target = getattr(getattr(thread, "_target", None), "__qualname__", type(thread).__qualname__)
    if frame is None:
        return f"thread {thread.name} ({target})"
    library = str(Path(threading.__file__).parent)
    while (
        frame.f_back is not None
        and frame.f_code.co_filename.startswith(library)
        and "packages" not in str(frame.f_code.co_filename)
    ):
        frame = frame.f_back
    return f"thread {thread.name} ({target}, {Path(frame.f_code.co_filename).name} line {frame.f_lineno})"


def _children() -> Iterator[tuple[int, str]]:
    """Ids and commands of this process's children, where there is a /proc."""
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            numbers = task.read_text().split()
        except OSError:
            continue
        for number in map(int, numbers):
            try:
                command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            yield number, command.strip()[:80] or "ended, and not waited for"
