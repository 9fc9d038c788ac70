"""One ledger connection that comes back: reconnects with backoff, tells a refusal from an outage."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import TypeVar

import psycopg

from rpa_core.clock import Clock
from rpa_core.errors import StoreUnavailable
from rpa_core.processing.events import WorkerEvents
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.store.connect import classify
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Claim
from rpa_core.waits import pause

logger = logging.getLogger("rpa.store")
T = TypeVar("T")


class LedgerSession:
    """The worker's connection. While the database is away every call waits its turn of the backoff."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        *,
        stop: threading.Event,
        clock: Clock,
        rand: random.Random,
        events: WorkerEvents,
        backoff: RetryPolicy | None = None,
    ) -> None:
        self._open = open_ledger
        self._stop = stop
        self._never = threading.Event()
        self._clock = clock
        self._rand = rand
        self._events = events
        self._backoff = backoff or RetryPolicy(max_attempts=0, base_s=0.2, cap_s=2.0)
        self._ledger: Ledger | None = None
        self._failures = 0
        self._away_since: float | None = None

    def ledger(self, mine: Claim | None = None, *, insist: bool = False) -> Ledger:
        """The open ledger, connecting if need be; raises StoreUnavailable after one failed try and its backoff.

        After a reconnect, leases of this worker other than `mine` are given back: they are claims whose answer
        was lost with the old connection. With `insist` the backoff is waited even when asked to stop.
        """
        if self._ledger is not None:
            return self._ledger
        try:
            ledger = self._opened(mine)
        except StoreUnavailable as error:
            self._wait(error, insist)
            raise
        except psycopg.Error as error:
            known = classify(error)
            if isinstance(known, StoreUnavailable):
                self._wait(known, insist)
            raise known from error
        self._ledger = ledger
        if self._away_since is not None:
            logger.info(
                "database is back after %.1f s",
                self._clock.monotonic() - self._away_since,
                extra={"event.action": "store.recovered"},
            )
        self._failures, self._away_since = 0, None
        return ledger

    def _opened(self, mine: Claim | None) -> Ledger:
        ledger = self._open()
        try:
            ledger.release_others(mine)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def failed(self, error: psycopg.Error, *, insist: bool = False) -> None:
        """Take in an error of a statement. Returns if it was an outage, after its backoff; else raises."""
        known = classify(error)
        if self._ledger is not None and (self._ledger.connection.broken or isinstance(known, StoreUnavailable)):
            self._ledger.close()
            self._ledger = None
        if not isinstance(known, StoreUnavailable):
            raise known from error
        self._wait(known, insist)

    def ask(self, question: Callable[[Ledger], T], *, mine: Claim | None = None, insist: bool = False) -> T | None:
        """Ask until there is an answer; None when asked to stop while the database is away (unless `insist`)."""
        while True:
            try:
                return question(self.ledger(mine, insist=insist))
            except psycopg.Error as error:
                self.failed(error, insist=insist)
            except StoreUnavailable:
                pass  # waited already, with its reason in the log
            if self._stop.is_set() and not insist:
                return None

    def close(self) -> None:
        """Close the connection."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _wait(self, error: StoreUnavailable, insist: bool) -> None:
        self._failures += 1
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
        delay_s = self._backoff.bound_s(self._failures) * self._rand.uniform(0.5, 1.0)
        logger.warning(
            "database away for %.1f s: %s; next try in %.1f s",
            now - self._away_since,
            error,
            delay_s,
            extra={"event.action": "store.away", "attempt": self._failures},
        )
        self._events.beat()
        pause(self._never if insist else self._stop, delay_s)
