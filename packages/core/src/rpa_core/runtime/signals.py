"""SIGTERM, SIGINT, SIGHUP and SIGQUIT: the first one drains, a later one ends the process at once.

A terminal that is closed (SIGHUP) ends a worker as a platform does. Under nohup, which ignores SIGHUP, it is ignored.

What comes within a quarter of a second of the first is the same word said twice: a process group and its supervisor
both pass a signal on, and the kernel tells of a parent's death once for each of its threads.

The kernel's signal is written to a pipe by the interpreter's C handler and read by a thread, so it is heard even
while the main thread is deep in a handler.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("rpa.runtime")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_SAME_S = 0.25


class Signals:
    """Calls `on_first` in a thread of its own; a later signal exits with 128 + its number."""

    def __init__(self, on_first: Callable[[signal.Signals], None]) -> None:
        self._on_first = on_first
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._heard_at: float | None = None
        self._before: dict[int, Any] = {}
        self._woke = -1
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._taken = [number for number in _SIGNALS if number is not signal.SIGHUP or not ignored]

    def install(self) -> None:
        """Take over the signals; main thread only."""
        self._woke = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._taken:
            self._before[number] = signal.signal(number, lambda *_: None)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def remove(self) -> None:
        """Give the signals back to what heard them before."""
        signal.set_wakeup_fd(self._woke)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._writer.close()

    def _listen(self) -> None:
        with self._reader:
            while data := self._reader.recv(64):
                for byte in data:
                    if byte in _SIGNALS:
                        self._hear(signal.Signals(byte))

    def _hear(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._heard_at is not None:
            if now - self._heard_at < _SAME_S:
                return
            os.write(2, f"rpa: second {number.name}: ending at once\n".encode())
            os._exit(128 + number)
        self._heard_at = now
        logger.info("%s: draining", number.name, extra={"event.action": "worker.draining"})
        self._on_first(number)
