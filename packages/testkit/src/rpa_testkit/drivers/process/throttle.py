"""A share of one CPU for a process that nobody put into a cgroup: stopped and continued many times a second."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

_PERIOD_S = 0.1


class Throttle:
    """Stops `pid` for all but `cores` of each period, until `end`."""

    def __init__(self, pid: int, cores: float) -> None:
        self._pid = pid
        self._share = min(1.0, max(0.01, cores))
        self._over = threading.Event()
        self.stopped_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"throttle-{pid}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it run freely; returns when it does."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(ProcessLookupError):
            try:
                while not self._over.is_set():
                    os.kill(self._pid, signal.SIGSTOP)
                    began = time.monotonic()
                    self._over.wait(_PERIOD_S * (1 - self._share))
                    os.kill(self._pid, signal.SIGCONT)
                    self.stopped_s += time.monotonic() - began
                    self._over.wait(_PERIOD_S * self._share)
            finally:
                os.kill(self._pid, signal.SIGCONT)
