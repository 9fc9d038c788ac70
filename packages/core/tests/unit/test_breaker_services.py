"""Probes behind breakers: waits that do not come on top of each other, and dead services that are left in peace."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime

import pytest

from rpa_core.config.models import ContainerConfig, DatabaseConfig, ServiceDependency
from rpa_core.errors import StoreRefused, StoreUnavailable
from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from rpa_core.services import waiting
from rpa_core.services.diagnosis import Diagnosis, Fault, Probe
from rpa_core.services.guarding import SERVICE_POLICY, guarded
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.services.waiting import Waiter

AWAY = Diagnosis(fault=Fault.REFUSED, seen="connection refused", advice="start it", final=False)
WRONG = Diagnosis(fault=Fault.PASSWORD, seen="password authentication failed", advice="correct it", final=True)
QUICK = BreakerPolicy(min_calls=1, failure_ratio=0.01, open_s=0.02, open_cap_s=0.02, look_s=5)
LONG = BreakerPolicy(min_calls=1, failure_ratio=0.01, open_s=60, open_cap_s=60, look_s=60)


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return stop.is_set()


def _counting(*answers: Diagnosis | None) -> tuple[Probe, list[int]]:
    """A probe that gives `answers`, the last one again and again, and how often it was asked."""
    left, asked = list(answers), [0]

    def probe() -> Diagnosis | None:
        asked[0] += 1
        return left.pop(0) if len(left) > 1 else left[0]

    return probe, asked


def _config() -> ContainerConfig:
    return ContainerConfig(
        flow_name="f",
        database_connections={"rpa_db": DatabaseConfig(connection_string="postgresql://u@h/d")},  # type: ignore[arg-type]
        service_dependencies=[ServiceDependency(service_name="mail", health_endpoint="http://h/", required=False)],
    )


@pytest.mark.requirement("R2.4", "R8.1")
def test_a_dead_service_is_not_asked_at_full_rate() -> None:
    """A check every three seconds for ten minutes: the last finding stands in between; its return is seen soon."""
    clock = Clock()
    breaker = CircuitBreaker("mail", SERVICE_POLICY, clock=clock, rand=random.Random(1))
    probe, asked = _counting(AWAY)
    look = guarded(probe, breaker)
    for _ in range(200):
        assert look() is AWAY
        clock.now += 3
    assert asked[0] <= 600 / 7.5 + 5
    back, _ = _counting(None)
    clock.now += SERVICE_POLICY.open_cap_s
    assert guarded(back, breaker)() is None
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.requirement("R2.4")
def test_who_refuses_is_there() -> None:
    """A final diagnosis is an answer: it opens nothing."""
    breaker = CircuitBreaker("mail", QUICK)
    probe, asked = _counting(WRONG)
    assert [guarded(probe, breaker)() for _ in range(3)] == [WRONG] * 3
    assert (asked[0], breaker.state) == (3, BreakerState.CLOSED)


@pytest.mark.requirement("R2.4")
def test_a_probe_that_fails_itself_lets_the_next_one_look() -> None:
    """An exception is no answer, and keeps nobody out for ever."""

    def broken() -> Diagnosis | None:
        raise ValueError("a defect")

    breaker = CircuitBreaker("mail", QUICK)
    with pytest.raises(ValueError, match="a defect"):
        guarded(broken, breaker)()
    assert breaker.wait_turn(5)


@pytest.mark.requirement("R2.1", "R2.2")
def test_a_wait_tries_when_the_breaker_lets_it() -> None:
    """Its attempts are looks; the last one closes the breaker for everybody."""
    breaker = CircuitBreaker("rpa_db", QUICK)
    probe, asked = _counting(AWAY, AWAY, AWAY, None)
    waited = Waiter().wait("database rpa_db", probe, 30, breaker=breaker)
    assert (waited.answered, waited.attempts, asked[0]) == (True, 4, 4)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.requirement("R2.1", "R2.5")
def test_what_another_finds_out_ends_the_wait() -> None:
    """The next look is a minute away; somebody else's connection is made: the wait is over at once."""
    breaker = CircuitBreaker("rpa_db", LONG)
    probe, asked = _counting(AWAY, None)
    ended: list[float] = []

    def wait() -> None:
        assert Waiter().wait("database rpa_db", probe, 50, breaker=breaker).answered
        ended.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    while breaker.state is BreakerState.CLOSED:
        threading.Event().wait(0.005)
    closed_at = time.monotonic()
    breaker.succeeded()
    thread.join(30)
    assert asked[0] == 2
    assert ended[0] - closed_at < 20


@pytest.mark.requirement("R2.1", "R5.5")
@pytest.mark.parametrize("told_to_stop", [True, False])
def test_a_wait_for_a_turn_ends_with_its_time_and_with_a_stop(told_to_stop: bool) -> None:
    """Even if no attempt was possible at all."""
    breaker, stop = CircuitBreaker("rpa_db", LONG), threading.Event()
    breaker.failed()
    if told_to_stop:
        stop.set()
    probe, asked = _counting(None)
    waited = Waiter(stop=stop).wait("database rpa_db", probe, 0.05, breaker=breaker)
    assert (waited.answered, waited.stopped, asked[0]) == (False, told_to_stop, 0)


@pytest.mark.requirement("R1.5", "R2.1")
def test_a_refusal_is_borne_for_a_time_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file had the new password before the role: waited for at a calm pace, and then final after all."""
    clock = Clock()
    monkeypatch.setattr(waiting, "pause", clock.pause)
    for answers, outcome in (((WRONG, WRONG, None), True), ((WRONG,), None)):
        probe, asked = _counting(*answers)
        orchestrator = ServiceOrchestrator(
            _config(), clock=clock, bear_s=20, probe_database=lambda *_, ask=probe: ask(), probe_service=lambda _: None
        )
        if outcome:
            assert orchestrator.wait_for_database(60)
            continue
        with pytest.raises(StoreRefused, match="password authentication failed"):
            orchestrator.wait_for_database(60)
        assert asked[0] <= 12


@pytest.mark.requirement("R2.4", "R8.1")
def test_failures_that_users_report_count_for_the_breaker() -> None:
    """`handle_service_failure` opens it for everybody, `handle_service_recovery` closes it."""
    breakers: dict[str, CircuitBreaker] = {}

    def breaker_of(name: str) -> CircuitBreaker:
        return breakers.setdefault(name, CircuitBreaker(name, LONG))

    probe, asked = _counting(None)
    orchestrator = ServiceOrchestrator(
        _config(), breaker_of=breaker_of, probe_database=lambda *_: probe(), probe_service=lambda _: probe()
    )
    orchestrator.handle_service_failure("rpa_db", StoreRefused("wrong password"))
    assert breakers["database:rpa_db"].state is BreakerState.CLOSED
    orchestrator.handle_service_failure("rpa_db", StoreUnavailable("gone"))
    orchestrator.handle_service_failure("mail", OSError("no route"))
    assert {breaker.state for breaker in breakers.values()} == {BreakerState.OPEN}
    status = orchestrator.validate_service_health()
    assert (asked[0], status.status) == (0, "unhealthy")
    for name in ("rpa_db", "mail"):
        orchestrator.handle_service_recovery(name)
    assert orchestrator.validate_service_health().status == "healthy"
    assert asked[0] == 2
