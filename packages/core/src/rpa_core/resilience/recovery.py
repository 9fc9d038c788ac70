"""ErrorRecoveryManager: what is done about an error, decided from a table; the runtime carries it out.

    reconnect -> new pool -> reload secrets -> pause -> alert -> exit

Each trouble of a service has a ladder. A rung may be used from so many seconds after the trouble began, so often, and
so far apart; of those that may be used now the highest is. A success ends the trouble and takes everything back. What
is decided is the same for the same errors at the same times: no thread, no sleep, nothing done here.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import ConfigError, RpaError, SchemaError, StoreDenied, StoreRefused, TransientError
from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from rpa_core.resilience.retry import RetryPolicy


class Remedy(StrEnum):
    """What can be done, from the least to the most."""

    RETRY = "retry"
    RECONNECT = "reconnect"
    NEW_POOL = "new-pool"
    RELOAD_SECRETS = "reload-secrets"
    PAUSE = "pause"
    ALERT = "alert"
    EXIT = "exit"


class Trouble(StrEnum):
    """What an error says about a service."""

    AWAY = "away"
    REFUSED = "refused"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class RecoveryAction:
    """Do `remedy` because of `reason`, then try again after `delay_s` seconds; with EXIT, end with `exit_code`."""

    remedy: Remedy
    reason: str
    delay_s: float = 0.0
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Used from `after_s` seconds after the trouble began, `every_s` seconds apart, at most `limit` times (0: any)."""

    remedy: Remedy
    after_s: float = 0.0
    every_s: float = 0.0
    limit: int = 0

    def __post_init__(self) -> None:
        if self.after_s < 0 or self.every_s < 0 or self.limit < 0:
            raise ValueError("a rung needs after_s, every_s and limit of at least 0")


def _away(exit_after_s: float) -> tuple[Rung, ...]:
    return (
        Rung(remedy=Remedy.RECONNECT),
        Rung(remedy=Remedy.NEW_POOL, after_s=10.0, every_s=60.0, limit=3),
        Rung(remedy=Remedy.RELOAD_SECRETS, after_s=15.0, every_s=60.0),
        Rung(remedy=Remedy.PAUSE, after_s=20.0, limit=1),
        Rung(remedy=Remedy.ALERT, after_s=30.0, every_s=600.0),
        Rung(remedy=Remedy.EXIT, after_s=exit_after_s),
    )


def _refused(exit_after_s: float) -> tuple[Rung, ...]:
    return (
        Rung(remedy=Remedy.RETRY),
        Rung(remedy=Remedy.RELOAD_SECRETS, every_s=1.0),
        Rung(remedy=Remedy.PAUSE, after_s=5.0, limit=1),
        Rung(remedy=Remedy.ALERT, after_s=30.0, every_s=600.0),
        Rung(remedy=Remedy.EXIT, after_s=exit_after_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """The ladders, and the pauses between tries: capped exponential, spread over their upper half."""

    away: tuple[Rung, ...] = field(default_factory=lambda: _away(3600.0))
    refused: tuple[Rung, ...] = field(default_factory=lambda: _refused(300.0))
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_attempts=0, base_s=0.2, cap_s=2.0))

    @classmethod
    def of(cls, *, exit_after_s: float, refused_after_s: float, pauses: RetryPolicy | None = None) -> RecoveryPolicy:
        """The usual ladders, with their ends where they are configured."""
        usual = cls(away=_away(exit_after_s), refused=_refused(refused_after_s))
        return usual if pauses is None else cls(away=usual.away, refused=usual.refused, pauses=pauses)


@dataclass(slots=True)
class _Case:
    """One service's trouble, until it recovers."""

    failures: int = 0
    since: dict[Trouble, float] = field(default_factory=dict)
    uses: Counter[tuple[Trouble, Remedy]] = field(default_factory=Counter)
    last: dict[tuple[Trouble, Remedy], float] = field(default_factory=dict)


class ErrorRecoveryManager:
    """One per process, used from all threads.

    `on_action(service, action)` is told of every decision; `on_change` of every change of a breaker made here.
    `proven`: services that have worked before, in an earlier life of this process.
    """

    def __init__(
        self,
        policy: RecoveryPolicy | None = None,
        *,
        clock: Clock | None = None,
        on_action: Callable[[str, RecoveryAction], object] | None = None,
        on_change: Callable[[str, BreakerState, BreakerState], object] | None = None,
        rand: random.Random | None = None,
        proven: frozenset[str] = frozenset(),
    ) -> None:
        self._policy = policy or RecoveryPolicy()
        self._clock = clock or SystemClock()
        self._on_action = on_action
        self._on_change = on_change
        self._rand = rand or random.Random()  # noqa: S311 - jitter
        self._guard = threading.Lock()
        self._cases: dict[str, _Case] = {}
        self._proven = set(proven)
        self._breakers: dict[str, CircuitBreaker] = {}
        self._running = False

    def started(self) -> None:
        """Work has begun: from now on a wrong configuration is one that was to replace a good one."""
        self._running = True

    def handle_configuration_error(self, error: Exception) -> RecoveryAction:
        """EXIT (78) at a start; of a running container the new configuration is refused, and somebody is told."""
        if self._running:
            return self._decided("configuration", Remedy.ALERT, f"the changed configuration is refused: {error}")
        code = error.exit_code if isinstance(error, RpaError) else ConfigError.exit_code
        return self._decided("configuration", Remedy.EXIT, str(error), exit_code=code)

    def handle_service_error(self, service: str, error: Exception) -> RecoveryAction:
        """What to do about a failed use of a service; database errors as `store.connect.classify` has them.

        Away (TransientError, OSError) and refused are borne, each up its ladder; refused only where the service has
        let us in before (`recovered`), else waiting would hide what is wrong. Anything else: as a runtime error.
        """
        trouble = _trouble(error)
        if trouble is Trouble.WRONG:
            return self._decided(service, Remedy.EXIT, _told(error), exit_code=_exit_code(error))
        with self._guard:
            if trouble is Trouble.REFUSED and not (service in self._proven or isinstance(error, StoreDenied)):
                remedy, delay_s = Remedy.EXIT, 0.0
            else:
                case = self._cases.setdefault(service, _Case())
                case.failures += 1
                remedy = self._climb(case, trouble)
                delay_s = self._policy.pauses.bound_s(case.failures) * self._rand.uniform(0.5, 1.0)
        if remedy is Remedy.EXIT:
            return self._decided(service, remedy, _told(error), exit_code=_exit_code(error))
        return self._decided(service, remedy, _told(error), delay_s=delay_s)

    def handle_runtime_error(self, error: Exception) -> RecoveryAction:
        """What to do about an error that came out of the work itself: RETRY what passes, else EXIT with its code.

        An error that nobody meant to raise is a defect: EXIT with 70. Before any EXIT somebody is told.
        """
        if isinstance(error, TransientError):
            with self._guard:
                case = self._cases.setdefault("work", _Case())
                case.failures += 1
                delay_s = self._policy.pauses.bound_s(case.failures) * self._rand.uniform(0.5, 1.0)
            return self._decided("work", Remedy.RETRY, _told(error), delay_s=delay_s)
        return self._decided("work", Remedy.EXIT, _told(error), exit_code=_exit_code(error))

    def implement_circuit_breaker(self, service: str, policy: BreakerPolicy | None = None) -> CircuitBreaker:
        """The breaker of a service; the first call makes it, later ones return the same."""
        with self._guard:
            if service not in self._breakers:
                self._breakers[service] = CircuitBreaker(
                    service, policy, clock=self._clock, rand=self._rand, on_change=self._on_change
                )
            return self._breakers[service]

    def recovered(self, service: str) -> float | None:
        """The service was used with success. Seconds its trouble lasted; None if there was none."""
        with self._guard:
            self._proven.add(service)
            case = self._cases.pop(service, None)
            return self._clock.monotonic() - min(case.since.values()) if case is not None and case.since else None

    def proven(self) -> frozenset[str]:
        """The services that have worked; for a next life in the same process."""
        with self._guard:
            return frozenset(self._proven)

    def trouble_s(self, service: str) -> float:
        """For how long the service has been in trouble; 0 if it is not."""
        with self._guard:
            case = self._cases.get(service)
            return self._clock.monotonic() - min(case.since.values()) if case is not None and case.since else 0.0

    def _climb(self, case: _Case, trouble: Trouble) -> Remedy:
        now = self._clock.monotonic()
        elapsed_s = now - case.since.setdefault(trouble, now)
        for rung in reversed(self._policy.refused if trouble is Trouble.REFUSED else self._policy.away):
            key = trouble, rung.remedy
            rested = key not in case.last or now - case.last[key] >= rung.every_s
            if elapsed_s >= rung.after_s and rested and (rung.limit == 0 or case.uses[key] < rung.limit):
                case.uses[key] += 1
                case.last[key] = now
                return rung.remedy
        return Remedy.RETRY

    def _decided(
        self, service: str, remedy: Remedy, reason: str, *, delay_s: float = 0.0, exit_code: int = 0
    ) -> RecoveryAction:
        action = RecoveryAction(remedy, reason, delay_s, exit_code)
        if self._on_action is not None:
            self._on_action(service, action)
        return action


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, StoreDenied | StoreRefused):
        return Trouble.REFUSED
    if isinstance(error, SchemaError):
        return Trouble.WRONG
    return Trouble.AWAY if isinstance(error, TransientError | OSError) else Trouble.WRONG


def _exit_code(error: Exception) -> int:
    if isinstance(error, RpaError):
        return error.exit_code
    return TransientError.exit_code if isinstance(error, OSError) else RpaError.exit_code


def _told(error: Exception) -> str:
    first = str(error).strip().splitlines()
    said = first[0] if first else "no message"
    return said if isinstance(error, RpaError) else f"{type(error).__name__}: {said}"
