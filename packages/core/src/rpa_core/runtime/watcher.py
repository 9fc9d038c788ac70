"""The watcher: hears of new records, samples depths for gates and metrics, and applies retention.

Listening is an optimisation. Whatever is missed, through PgBouncer for example, is found by the worker's polling.
"""

from __future__ import annotations

import logging
import random
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from rpa_core.clock import Clock
from rpa_core.errors import RpaError
from rpa_core.observability.metrics import RETENTION_REASONS, Metrics
from rpa_core.resilience.breaker import CircuitOpen
from rpa_core.store import retention
from rpa_core.store.connect import classify, is_transient
from rpa_core.store.database import Database
from rpa_core.store.lookup import FlowDepth, flow_depths
from rpa_core.waits import pause

logger = logging.getLogger("rpa.watcher")
_LOOK_S = 0.5  # a notification ends the wait at once; only chores and the end of the worker may wait as long
_SAMPLE_S = 2.0
_HOUSE_S = 60.0
_RECONNECT_S = 2.0


class Retention:
    """Applies the retention once a minute, and reports what stops it: in the log when that changes, and as metrics."""

    def __init__(self, *, period_days: float, retention_days: float, metrics: Metrics, clock: Clock) -> None:
        self._days = {"period_days": period_days, "retention_days": retention_days}
        self._metrics = metrics
        self._clock = clock
        self._reported = ""

    def apply(self, connection: psycopg.Connection[Any]) -> None:
        """Rotate, drop and forget what is due. Raises psycopg errors that a later try may cure."""
        try:
            retention.keep_house(connection, **self._days)
            kept = retention.periods(connection, **self._days, expired_only=True)
        except psycopg.Error as error:
            if is_transient(error):
                raise
            rights = isinstance(error, psycopg.errors.InsufficientPrivilege)
            self._set(rights=int(rights), error=int(not rights))
            self._report(_no_rights(connection, error) if rights else f"retention failed: {classify(error)}")
            return
        self._metrics.retention_last_success.set(self._clock.utcnow().timestamp())
        self._set(
            dead_letters=sum(period.dead for period in kept),
            unfinished=sum(period.unfinished for period in kept),
        )
        self._report(_kept(kept))

    def _set(self, **blocked: int) -> None:
        for reason in RETENTION_REASONS:
            self._metrics.retention_blocked.labels(reason=reason).set(blocked.get(reason, 0))

    def _report(self, why: str) -> None:
        if why and why != self._reported:
            logger.warning("%s", why, extra={"event.action": "retention.blocked"})
        self._reported = why


def _no_rights(connection: psycopg.Connection[Any], error: psycopg.Error) -> str:
    cause, role = str(error).splitlines()[0], shlex.quote(connection.info.user)
    return (
        f"no period is opened or dropped by this worker: {cause}. As the owner of schema rpa, run "
        f"`rpa db grants {role} --for worker --apply` once, or `rpa db retain` every day"
    )


def _kept(periods: Sequence[retention.PeriodState]) -> str:
    dead = ", ".join(str(period.id) for period in periods if period.dead)
    unfinished = ", ".join(str(period.id) for period in periods if period.unfinished)
    return "; ".join(
        text
        for text in (
            dead
            and f"periods past the retention are kept for their dead letters ({dead}): `rpa records failed`, "
            "then `retry`, `correct` or `discard`",
            unfinished and f"periods past the retention are kept for unfinished records ({unfinished})",
        )
        if text
    )


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
        retention: Retention,
        clock: Clock,
    ) -> None:
        self._database = database
        self._flow = flow
        self._wake = wake
        self._listen = listen
        self._on_depths = on_depths
        self._retention = retention
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
            self._retention.apply(connection)
