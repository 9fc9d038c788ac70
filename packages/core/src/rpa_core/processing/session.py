"""One ledger connection that comes back: reconnects when it is time to, and knows a use that went well from one that
did not.

    use fails, connection lost -> closed, the next use reconnects
    use fails, connection well -> kept
    either way the `Recovery` says how long to wait, or that it is enough

The trouble is over when a use has gone well; opening counts as one where opening was what failed.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import TypeVar

import psycopg

from rpa_core.clock import Clock
from rpa_core.errors import RpaError, StoreRefused, StoreUnavailable
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.recovery import Backoff, Recovery
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.store.connect import classify
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Claim

logger = logging.getLogger("rpa.store")
T = TypeVar("T")


class LedgerSession:
    """The worker's connection. While the database is away or refuses, every call waits its turn.

    Without `recovery` the waits are `backoff`'s, and a refusal ends the worker.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        *,
        stop: threading.Event,
        clock: Clock,
        rand: random.Random,
        events: WorkerEvents,
        backoff: RetryPolicy | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self._open = open_ledger
        self._stop = stop
        self._never = threading.Event()
        self._clock = clock
        self._events = events
        self._recovery = recovery or Backoff(backoff or RetryPolicy(max_attempts=0, base_s=0.2, cap_s=2.0), rand)
        self._ledger: Ledger | None = None
        self._failures = 0
        self._proven = False
        self._in_use = False  # handed out, and nothing bad heard of it since
        self._failed_in_use = False
        self._away_since: float | None = None

    def ledger(self, mine: Claim | None = None, *, insist: bool = False) -> Ledger:
        """The open ledger, connecting if need be; raises StoreUnavailable after one failed try and its wait.

        After a reconnect, leases of this worker other than `mine` are given back: they are claims whose answer
        was lost with the old connection. With `insist` the wait is not cut short by a stop.
        """
        if self._ledger is None:
            self._ledger = self._reopened(mine, insist)
            if not self._failed_in_use:
                self._recovered()
        elif self._in_use and (self._failures or not self._proven):
            self._recovered()
        self._in_use = True
        return self._ledger

    def _reopened(self, mine: Claim | None, insist: bool) -> Ledger:
        try:
            return self._opened(mine)
        except (psycopg.Error, RpaError) as error:
            self._failed_in_use = False
            known = classify(error) if isinstance(error, psycopg.Error) else error
            self._wait(known, insist)
            raise known if isinstance(known, StoreUnavailable) else StoreUnavailable(str(known)) from error

    def _opened(self, mine: Claim | None) -> Ledger:
        ledger = self._open()
        try:
            ledger.release_others(mine)
        except psycopg.Error as error:
            known = classify(error, ledger.connection)
            ledger.close()
            raise known from error
        except BaseException:
            ledger.close()
            raise
        return ledger

    def failed(self, error: psycopg.Error, *, insist: bool = False) -> None:
        """Take in an error of a statement. Returns after its wait if it will pass; else raises."""
        known = classify(error, self._ledger.connection if self._ledger is not None else None)
        self._in_use = False
        self._failed_in_use = True
        read_only = error.sqlstate == "25006"  # a setting of the role, which a session reads when it begins
        away = isinstance(known, StoreUnavailable)
        if self._ledger is not None and (self._ledger.connection.broken or away or read_only):
            self._ledger.close()
            self._ledger = None
        if not (away or isinstance(known, StoreRefused)):
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

    def _recovered(self) -> None:
        if self._away_since is not None:
            logger.info(
                "database is back after %.1f s",
                self._clock.monotonic() - self._away_since,
                extra={"event.action": "store.recovered"},
            )
        self._failures, self._away_since, self._proven, self._failed_in_use = 0, None, True, False
        self._recovery.recovered()

    def _wait(self, error: RpaError, insist: bool) -> None:
        self._failures += 1
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
        delay_s = self._recovery.failed(error)
        logger.warning(
            "database away for %.1f s: %s; next try in %.1f s",
            now - self._away_since,
            error,
            delay_s,
            extra={"event.action": "store.away", "attempt": self._failures},
        )
        self._events.beat()
        self._recovery.wait(delay_s, self._never if insist else self._stop)
