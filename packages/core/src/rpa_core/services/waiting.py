"""Waiting for something outside: capped exponential backoff with full jitter, one deadline, each attempt logged."""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass

from rpa_core.clock import Clock, SystemClock
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.services.diagnosis import Diagnosis, Probe
from rpa_core.services.guarding import told
from rpa_core.waits import pause

_log = logging.getLogger("rpa.services")
_REFUSED_S = 2.0  # between tries of a password that is refused: a server may lock out who hurries


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How a wait ended. `last` is the last diagnosis, None when it answered at once; `stopped`: we were told to end."""

    answered: bool
    attempts: int
    elapsed_s: float
    last: Diagnosis | None = None
    stopped: bool = False


class Waiter:
    """Waits for one dependency at a time; holds no state between waits."""

    def __init__(
        self,
        *,
        stop: threading.Event | None = None,
        clock: Clock | None = None,
        rand: random.Random | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._clock = clock or SystemClock()
        self._rand = rand or random.Random()  # noqa: S311 - jitter
        self._policy = policy or RetryPolicy(max_attempts=0, base_s=0.2, cap_s=5.0)

    def wait(
        self,
        what: str,
        probe: Probe,
        timeout_s: float,
        *,
        max_attempts: int = 0,
        breaker: CircuitBreaker | None = None,
        bear_s: float = 0.0,
    ) -> Waited:
        """Probe until `what` answers, the diagnosis is final, or attempts, time or patience (`stop`) end.

        With a `breaker`, which others use too, attempts are made when it lets them through: nobody's attempts come on
        top of somebody else's, and what another one finds out ends the wait. For `bear_s` seconds a final diagnosis is
        treated as one that passes.
        """
        started, since = self._clock.monotonic(), self._clock.utcnow().isoformat(timespec="seconds")
        attempt = 0
        found: Diagnosis | None = None
        while True:
            if breaker is not None and not self._my_turn(breaker, timeout_s - (self._clock.monotonic() - started)):
                elapsed, stopped = self._clock.monotonic() - started, self._stop.is_set()
                if found is not None and not stopped:
                    self._failed(what, since, attempt, elapsed, found, None)
                return Waited(answered=False, attempts=attempt, elapsed_s=elapsed, last=found, stopped=stopped)
            attempt += 1
            found = probe() if breaker is None else told(probe, breaker)
            elapsed = self._clock.monotonic() - started
            if found is None:
                self._answered(what, attempt, elapsed)
                return Waited(answered=True, attempts=attempt, elapsed_s=elapsed)
            left = timeout_s - elapsed
            over = (found.final and elapsed >= bear_s) or left <= 0 or 0 < max_attempts <= attempt
            delay = 0.0 if over else min(left, self._delay_s(attempt, found, breaker))
            self._failed(what, since, attempt, elapsed, found, None if over else delay)
            stopped = not over and self._rest(delay, breaker)
            if over or stopped:
                return Waited(answered=False, attempts=attempt, elapsed_s=elapsed, last=found, stopped=stopped)

    def _my_turn(self, breaker: CircuitBreaker, left_s: float) -> bool:
        """Wait until a call is allowed; False at the end of time or at a stop."""
        deadline = self._clock.monotonic() + left_s
        while not breaker.allow():
            if not breaker.wait_turn(deadline - self._clock.monotonic(), self._stop):
                return False
        return True

    def _rest(self, delay_s: float, breaker: CircuitBreaker | None) -> bool:
        """Whether to stop; ends early when the breaker closes."""
        if breaker is None or breaker.retry_after_s() <= 0:
            return pause(self._stop, delay_s)
        breaker.wait_turn(delay_s, self._stop)
        return self._stop.is_set()

    def _delay_s(self, attempt: int, found: Diagnosis, breaker: CircuitBreaker | None) -> float:
        if found.final:
            return _REFUSED_S
        if breaker is not None and (turn_s := breaker.retry_after_s()) > 0:
            return turn_s
        return self._policy.delay_s(attempt, self._rand)

    def _answered(self, what: str, attempt: int, elapsed: float) -> None:
        extra = {"event.action": "dependency.answered", "rpa.dependency": what, "rpa.attempt": attempt}
        level = logging.INFO if attempt > 1 else logging.DEBUG
        _log.log(level, "%s answers (attempt %d, after %.1f s)", what, attempt, elapsed, extra=extra)

    def _failed(
        self, what: str, since: str, attempt: int, elapsed: float, found: Diagnosis, delay: float | None
    ) -> None:
        extra = {
            "event.action": "dependency.waiting" if delay is not None else "dependency.given_up",
            "rpa.dependency": what,
            "rpa.attempt": attempt,
            "rpa.since": since,
            "rpa.fault": str(found.fault),
            "rpa.next_delay_s": None if delay is None else round(delay, 3),
        }
        head = f"waiting for {what} since {since} ({elapsed:.1f} s, attempt {attempt}): {found.text}"
        if delay is None:
            why = "waiting cannot help" if found.final else "out of time or attempts"
            _log.error("%s; giving up: %s", head, why, extra=extra)
        else:
            _log.warning("%s; next try in %.2f s", head, delay, extra=extra)
