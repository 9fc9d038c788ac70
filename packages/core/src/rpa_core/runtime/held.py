"""Finished work through an outage: the worker's own goes into the spool, that of earlier lives is completed."""

from __future__ import annotations

from collections.abc import Callable

from rpa_core.checkpoints import Checkpoints
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.finished import KIND, HeldWork, LateCompletion, SpooledWork
from rpa_core.processing.flow import Flow
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools
from rpa_core.store.ledger import Ledger

_PACE = RetryPolicy(max_attempts=0, base_s=0.2, cap_s=2.0)  # leases run out: a long wait would make the work worthless


class Held:
    """`work` is for the worker; what earlier lives left is completed from `start` to `stop`."""

    def __init__(self, work: HeldWork, courier: Courier, spools: Spools) -> None:
        self.work = work
        self._courier = courier
        self._spools = spools

    def start(self) -> None:
        """Begin to complete."""
        self._courier.start()

    def settle(self, timeout_s: float) -> bool:
        """Complete what was adopted before the worker claims anything: a lease that ran out would be its next claim.

        Whether nothing is left; returns at once where there is nothing.
        """
        if not any(spool.depth(KIND).entries for spool in self._spools.adopted()):
            return True
        return self._courier.flush(timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Stop completing; what is left stays in the spool."""
        self._courier.stop(timeout_s)


def open_held(
    flow: Flow,
    spools: Spools,
    open_ledger: Callable[[], Ledger],
    *,
    events: WorkerEvents | None = None,
    checkpoints: Checkpoints | None = None,
    retry: RetryPolicy | None = None,
) -> Held:
    """Everything about finished work in the spool.

    `events` are told of what is completed or lost, from the courier's thread. `retry` says how often outcomes may be
    refused before they are given back. The worker's own spool is left to the worker: it lives, and completes.
    """
    late = LateCompletion(flow, open_ledger, events=events, retry=retry)
    courier = Courier(KIND, spools.adopted, late.deliver, policy=_PACE)
    return Held(SpooledWork(spools.own, flow, checkpoints), courier, spools)
