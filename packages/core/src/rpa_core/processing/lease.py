"""LeaseKeeper: renews what the worker holds, from a thread and a connection of its own.

Trust is local and errs on the safe side: a lease is trusted until `sent + ttl - margin` on the monotonic clock,
where `sent` is the moment just before the claim or the last successful renewal went out. Past that the worker
begins no further record; what it finished it may still try to complete, because the fence decides.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from rpa_core.clock import Clock
from rpa_core.errors import RpaError
from rpa_core.resilience.breaker import CircuitOpen
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Claim
from rpa_core.waits import pause

logger = logging.getLogger("rpa.lease")
_RENEWALS_PER_TTL = 3
_MARGIN = 0.1
_SOON_S = 0.25


class LeaseKeeper:
    """Keeps the leases of one claim at a time."""

    def __init__(self, *, open_ledger: Callable[[], Ledger], ttl_s: float, clock: Clock) -> None:
        self._open_ledger = open_ledger
        self._ttl_s = ttl_s
        self._clock = clock
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._claim: Claim | None = None
        self._trusted_until = 0.0
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; whatever is held is no longer renewed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def hold(self, claim: Claim) -> None:
        """Renew this claim from now on."""
        with self._guard:
            self._claim = claim
            self._trusted_until = claim.taken_at + self._trust_s

    def let_go(self) -> Claim | None:
        """Renew no more; returns what was held."""
        with self._guard:
            claim, self._claim = self._claim, None
            return claim

    def trusted(self) -> bool:
        """Whether the lease is certainly still ours."""
        return self._clock.monotonic() < self._trusted_until

    @property
    def held(self) -> Claim | None:
        """What is held now."""
        return self._claim

    @property
    def _trust_s(self) -> float:
        return self._ttl_s * (1 - _MARGIN)

    def _run(self) -> None:
        ledger: Ledger | None = None
        wait_s = self._ttl_s / _RENEWALS_PER_TTL
        while not pause(self._stop, wait_s):
            wait_s = self._ttl_s / _RENEWALS_PER_TTL
            claim = self._claim
            if claim is None:
                continue
            try:
                ledger = ledger or self._open_ledger()
                if not self._renew(ledger, claim):
                    wait_s = min(wait_s, _SOON_S)
            except (psycopg.Error, RpaError) as error:
                if not isinstance(error.__cause__, CircuitOpen):  # nothing was tried, so nothing is new
                    logger.warning("lease not renewed: %s", error, extra={"event.action": "lease.renewal_failed"})
                if ledger is not None:
                    ledger.close()
                    ledger = None
                wait_s = min(wait_s, _SOON_S)
        if ledger is not None:
            ledger.close()

    def _renew(self, ledger: Ledger, claim: Claim) -> bool:
        """Renew once; False if it should be tried again soon."""
        sent = self._clock.monotonic()
        renewed, ours = ledger.renew(claim)
        with self._guard:
            if self._claim is not claim:
                return True
            if len(renewed) == len(claim.chunks):
                self._trusted_until = sent + self._trust_s
                return True
            if len(ours) == len(claim.chunks):
                return False
            self._trusted_until = 0.0
        logger.warning(
            "lease lost: another worker took over %d of %d chunks",
            len(claim.chunks) - len(ours),
            len(claim.chunks),
            extra={"event.action": "lease.lost"},
        )
        return True
