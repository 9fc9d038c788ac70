"""The watcher: hears of new records, samples depths for gates and metrics, and keeps house.

Listening is an optimisation. Whatever is missed, through PgBouncer for example, is found by the worker's polling.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from rpa_core.clock import Clock
from rpa_core.errors import RpaError
from rpa_core.resilience.breaker import CircuitOpen
from rpa_core.store import retention
from rpa_core.store.database import Database
from rpa_core.store.lookup import FlowDepth, flow_depths
from rpa_core.waits import pause

logger = logging.getLogger("rpa.watcher")
_LOOK_S = 0.5  # a notification ends the wait at once; only chores and the end of the worker may wait as long
_SAMPLE_S = 2.0
_HOUSE_S = 60.0
_RECONNECT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long results are kept, in days."""

    period_days: float
    retention_days: float


class Watcher:
    """One thread, one connection. `on_depths` gets each sample of the queue."""

    def __init__(
        self,
        *,
        database: Database,
        flow: str,
        wake: threading.Event,
        listen: bool,
        on_depths: Callable[[Mapping[str, FlowDepth]], None],
        keeping: Keeping,
        clock: Clock,
    ) -> None:
        self._database = database
        self._flow = flow
        self._wake = wake
        self._listen = listen
        self._on_depths = on_depths
        self._keeping = keeping
        self._clock = clock
        self._stop = threading.Event()
        self._rand = random.Random()  # noqa: S311 - jitter, not secrecy
        self._sample_at = self._house_at = 0.0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within about half a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._database.connect(application_name=f"rpa {self._flow} watcher") as connection:
                    self._watch(connection)
            except (psycopg.Error, RpaError) as error:
                told = isinstance(error.__cause__, CircuitOpen)
                logger.log(
                    logging.DEBUG if told else logging.INFO,
                    "watcher has no connection: %s",
                    error,
                    extra={"event.action": "watcher.away"},
                )
                pause(self._stop, _RECONNECT_S * self._rand.uniform(0.5, 1.0))
                self._database.breaker.wait_turn(_RECONNECT_S, self._stop)

    def _watch(self, connection: psycopg.Connection[Any]) -> None:
        if self._listen:
            connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(f"rpa.{self._flow}")))
            self._wake.set()  # what came before the LISTEN
        while not self._stop.is_set():
            self._chores(connection)
            if self._listen:
                for _ in connection.notifies(timeout=_LOOK_S, stop_after=1):
                    self._wake.set()
            else:
                pause(self._stop, _LOOK_S)

    def _chores(self, connection: psycopg.Connection[Any]) -> None:
        now = self._clock.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_S * self._rand.uniform(0.75, 1.25)
            self._on_depths(flow_depths(connection))
        if now >= self._house_at:
            self._house_at = now + _HOUSE_S * self._rand.uniform(0.5, 1.5)
            retention.keep_house(
                connection,
                period_days=self._keeping.period_days,
                retention_days=self._keeping.retention_days,
            )
