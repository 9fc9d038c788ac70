"""A probe behind a breaker: what was found away is asked again only when it is time to."""

from __future__ import annotations

from rpa_core.resilience.breaker import BreakerPolicy, CircuitBreaker
from rpa_core.services.diagnosis import Diagnosis, Fault, Probe

SERVICE_POLICY = BreakerPolicy(window_s=60.0, min_calls=2, failure_ratio=0.5, open_s=1.0, open_cap_s=15.0)


def guarded(probe: Probe, breaker: CircuitBreaker) -> Probe:
    """`probe`, but while the breaker is open the answer is what was found last. For one thread at a time."""
    last = Diagnosis(
        fault=Fault.OTHER, seen="was found away a moment ago", advice="it is looked at again by itself", final=False
    )

    def look() -> Diagnosis | None:
        nonlocal last
        if not breaker.allow():
            return last
        found = told(probe, breaker)
        last = found or last
        return found

    return look


def told(probe: Probe, breaker: CircuitBreaker) -> Diagnosis | None:
    """Probe, and tell the breaker, which has allowed it. A final diagnosis came from somebody who is there."""
    try:
        found = probe()
    except BaseException:
        breaker.failed()
        raise
    if found is None or found.final:
        breaker.succeeded()
    else:
        breaker.failed()
    return found
