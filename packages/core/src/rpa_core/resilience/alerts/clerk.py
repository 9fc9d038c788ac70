"""A thread that writes for others: a disk that hangs holds up the clerk, and nobody who must end in time."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("rpa.alerts")
Job = Callable[[], object]


class Clerk:
    """Carries out jobs in the order in which they came. An error in one is logged, the next one follows."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Job) -> threading.Event:
        """Have it done; the event is set when it is, or has failed."""
        done = threading.Event()
        self._jobs.put((job, done))
        return done

    def stop(self, timeout_s: float) -> bool:
        """Do what was asked for, and end; whether that was possible within the time."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            try:
                job()
            except Exception:
                logger.exception("an alert could not be written down", extra={"event.action": "alert.failed"})
            finally:
                done.set()
