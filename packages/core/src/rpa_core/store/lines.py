"""Connections that know how long an answer has been owed, and the thread that cuts those that will never get one.

A server that is frozen, or a proxy that acknowledges what it does not pass on, keeps TCP content: neither keepalives
nor tcp_user_timeout see anything, and a statement waits for ever. Here such a line is asked about over a new one:

    nothing answers                                    the server is away: cut, and all wait for it together
    the server answers and does not run the statement  the line is dead: cut
    the server answers and runs it, or refuses us      it is slow, or may be: left alone

Behind a pooler the server's process is not to be told, so there only the first case is cut. Whoever waits on a line
that was cut gets the error of a lost connection; what had been committed or not is found out as after any other.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from rpa_core.errors import RpaError
from rpa_core.store.connect import spoken_by_server
from rpa_core.waits import pause

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

logger = logging.getLogger("rpa.store")
_LOOK_S = 1.0
_FAILED = {"event.action": "store.watch_failed"}
_OWED_S = 12.0  # with the time of a connection attempt on top, well below the age of a heartbeat that is allowed


class Line(psycopg.Connection[Any]):
    """A connection that notes since when it has waited for the server."""

    owed_since: float | None = None
    backend: int | None = None  # the server's process, where no pooler stands between

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, with the note."""
        self.owed_since = time.monotonic()
        try:
            return super().wait(gen, interval, timeout)
        finally:
            self.owed_since = None

    def cut(self) -> None:
        """End it under whoever waits on it, from another thread."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


class LineWatch:
    """One thread over the lines of one database. `running(pids)` connects anew; of these it returns the busy ones."""

    def __init__(
        self,
        name: str,
        lines: Callable[[], Iterable[Line]],
        running: Callable[[list[int]], set[int]],
        *,
        owed_s: float = _OWED_S,
    ) -> None:
        self._name = name
        self._lines = lines
        self._running = running
        self._owed_s = owed_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lines-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at once unless it is just asking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def look(self) -> int:
        """Look once; how many lines were cut."""
        silent = [(line, since) for line in self._lines() if self._is_silent(since := line.owed_since)]
        if not silent:
            return 0
        pids = [line.backend for line, _ in silent if line.backend is not None]
        try:
            running, why = self._running(pids), "the server does not run the statement"
            dead = [(line, since) for line, since in silent if line.backend is not None and line.backend not in running]
        except (RpaError, psycopg.Error) as error:
            if spoken_by_server(error):  # then its old lines will say something too
                return 0
            dead, why = silent, f"no new connection answers either ({error})"
        cut = [line for line, since in dead if line.owed_since == since]  # and no other statement by now
        for line in cut:
            line.cut()
        if cut:
            logger.warning(
                "%d connections to %s cut that got no answer for %g s: %s",
                len(cut),
                self._name,
                self._owed_s,
                why,
                extra={"event.action": "store.line_cut", "rpa.dependency": self._name},
            )
        return len(cut)

    def _is_silent(self, since: float | None) -> bool:
        return since is not None and time.monotonic() - since > self._owed_s

    def _run(self) -> None:
        while not pause(self._stop, _LOOK_S):
            try:
                self.look()
            except Exception:
                # The next look may go better, and nobody else cuts.
                logger.exception("looking at the lines to %s failed", self._name, extra=_FAILED)
