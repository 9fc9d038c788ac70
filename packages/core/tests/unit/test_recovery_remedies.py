"""Remedies are carried out, and a worker's session lives through what a database does."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import psycopg
import pytest
from psycopg import errors

from rpa_core.errors import OutageTooLong, RpaError, SchemaError, StoreDenied, StoreRefused, StoreUnavailable
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.session import LedgerSession
from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryPolicy
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.runtime.databases import breaker_events
from rpa_core.runtime.remedies import Remedies, recovery_events
from rpa_core.store.database import Database
from rpa_core.store.ledger import Ledger

DENIED = StoreDenied("password authentication failed")
AWAY = StoreUnavailable("connection refused")


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Runtime:
    """Remedies over a clock of the test's, with pauses of next to nothing, and what was done."""

    clock: Clock = field(default_factory=Clock)
    done: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        policy = RecoveryPolicy.of(
            exit_after_s=3600,
            refused_after_s=300,
            pauses=RetryPolicy(max_attempts=0, base_s=0.001, cap_s=0.001),
        )
        self.manager = ErrorRecoveryManager(policy, clock=self.clock, on_action=recovery_events(self.metrics))
        self.breaker = CircuitBreaker("rpa_db", BreakerPolicy(min_calls=1, open_s=60, open_cap_s=60))
        self.remedies = Remedies(
            self.manager,
            new_pools=lambda name: self.done.append(f"pools {name}"),
            reload_secrets=lambda: self.done.append("secrets"),
            alert=lambda name, action: self.done.append(f"alert {name} {action.remedy}"),
            calm=lambda name: self.done.append(f"calm {name}"),
        )
        self.recovery = self.remedies.session("rpa_db", self.breaker, on_pause=lambda: self.done.append("pause"))


@pytest.mark.requirement("R8.1", "R6.5")
def test_each_remedy_is_carried_out_counted_and_taken_back() -> None:
    """An hour of outage: pools, secrets, pause, alert, and the end; a recovery ends the alert."""
    runtime = Runtime()
    runtime.recovery.recovered()
    for _ in range(40):
        runtime.recovery.failed(AWAY)
        runtime.clock.now += 1
    assert runtime.done == ["pools rpa_db", "secrets", "pause", "alert rpa_db alert"]
    runtime.recovery.recovered()
    assert runtime.done[-1] == "calm rpa_db"
    runtime.recovery.recovered()
    assert runtime.done.count("calm rpa_db") == 1
    read = runtime.metrics.registry.get_sample_value
    counted = {
        remedy: read("rpa_recovery_actions_total", {"service": "rpa_db", "remedy": remedy})
        for remedy in ("reconnect", "new-pool", "reload-secrets", "pause", "alert")
    }
    assert counted == {"reconnect": 36, "new-pool": 1, "reload-secrets": 1, "pause": 1, "alert": 1}


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(
    ("error", "after_s", "ends_with", "code"),
    [(AWAY, 3600, OutageTooLong, 75), (DENIED, 300, StoreRefused, 77), (SchemaError("old"), 0, SchemaError, 78)],
)
def test_the_end_of_the_ladder_is_an_error_nobody_waits_out(
    error: RpaError, after_s: float, ends_with: type[RpaError], code: int
) -> None:
    """Somebody is told first; the error is none that a worker takes for an outage, and says how long it lasted."""
    runtime = Runtime()
    runtime.recovery.recovered()
    if after_s:
        runtime.recovery.failed(error)
    runtime.clock.now += after_s
    with pytest.raises(ends_with) as caught:
        runtime.recovery.failed(error)
    assert caught.value.exit_code == code
    assert not isinstance(caught.value, StoreUnavailable)
    assert not after_s or f"for {after_s:.0f} s" in str(caught.value)
    assert runtime.done[-1] == "alert rpa_db exit"


@pytest.mark.requirement("R2.5", "R8.1")
def test_a_session_waits_for_the_breaker_and_wakes_when_it_closes() -> None:
    """Not for a time of its own: another one's look found the database."""
    runtime = Runtime()
    runtime.breaker.failed()
    assert runtime.recovery.failed(AWAY) > 1  # the breaker's
    woken = threading.Event()

    def wait() -> None:
        runtime.recovery.wait(300, threading.Event())
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not woken.wait(0.05)
    runtime.breaker.succeeded()
    assert woken.wait(20)


@pytest.mark.requirement("R1.5", "R8.1")
def test_a_flows_own_database_climbs_too_but_ends_nothing() -> None:
    """A refusal asks for new secrets, a long outage tells somebody; a first refusal is whoever asked's to report."""
    runtime = Runtime()
    database = Database("survey_hub", "postgresql://h/d")
    runtime.remedies.observe(database)
    assert database.on_attempt is not None
    database.on_attempt("survey_hub", StoreRefused("wrong password"))
    assert runtime.done == []
    database.on_attempt("survey_hub", None)
    database.on_attempt("survey_hub", DENIED)
    assert runtime.done == ["secrets"]
    runtime.clock.now += 5000
    database.on_attempt("survey_hub", DENIED)
    assert runtime.done[-1] == "alert survey_hub alert"
    database.on_attempt("survey_hub", None)
    assert runtime.done[-1] == "calm survey_hub"


@pytest.mark.requirement("R6.2", "R8.1")
def test_the_state_of_a_breaker_is_a_metric_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """Opening and closing are told; looks that fail are not, for there may be thousands."""
    caplog.set_level("INFO", "rpa.breaker")
    metrics = Metrics()
    tell = breaker_events(metrics)
    seen = []
    closed, is_open, half_open = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
    for before, after in [(closed, is_open), (is_open, half_open), (half_open, is_open), (half_open, closed)]:
        tell("rpa_db", before, after)
        seen.append(metrics.registry.get_sample_value("rpa_breaker_state", {"dependency": "rpa_db"}))
    assert seen == [2, 1, 2, 0]
    assert [record.message for record in caplog.records] == [
        "the breaker of rpa_db is open",
        "the breaker of rpa_db is closed",
    ]


class FakeLedger:
    def __init__(self, broken: bool = False) -> None:
        self.connection = self
        self.broken = broken
        self.closed = False

    def release_others(self, _: object) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Opening:
    """Opens ledgers, or raises what is to be raised first."""

    def __init__(self, *answers: Exception | FakeLedger) -> None:
        self.answers = list(answers)
        self.opened = 0

    def __call__(self) -> Ledger:
        self.opened += 1
        answer = self.answers.pop(0) if self.answers else FakeLedger()
        if isinstance(answer, Exception):
            raise answer
        return cast("Ledger", answer)


def _session(
    opening: Callable[[], Ledger], runtime: Runtime | None, stop: threading.Event | None = None
) -> LedgerSession:
    return LedgerSession(
        opening,
        stop=stop or threading.Event(),
        clock=Clock(),
        rand=random.Random(1),
        events=WorkerEvents(),
        backoff=RetryPolicy(max_attempts=0, base_s=0.001, cap_s=0.001),
        recovery=runtime.recovery if runtime is not None else None,
    )


def _raising(*found: Exception) -> Callable[[Ledger], str]:
    left = list(found)

    def question(_: Ledger) -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return question


@pytest.mark.requirement("R2.5", "R8.1")
def test_a_session_asks_until_there_is_an_answer() -> None:
    """Away at the opening, broken in a statement, refused, unavailable: each is borne, and then it is answered."""
    runtime = Runtime()
    opening = Opening(FakeLedger(broken=True), AWAY, DENIED, psycopg.OperationalError("reset"))
    session = _session(opening, runtime)
    question = _raising(errors.AdminShutdown("going down"), errors.InsufficientPrivilege("no right"))
    assert session.ask(question) == "answer"
    assert opening.opened == 5
    assert session.ask(_raising()) == "answer"
    assert runtime.manager.trouble_s("rpa_db") == 0


@pytest.mark.requirement("R1.3", "R8.1")
@pytest.mark.parametrize("alone", [True, False])
def test_a_session_that_never_got_in_ends_with_a_refusal(alone: bool) -> None:
    """There is nothing to bear before the first success, with the ladder or without."""
    session = _session(Opening(StoreRefused("wrong password")), None if alone else Runtime())
    with pytest.raises(StoreRefused, match="wrong password"):
        session.ask(_raising())


@pytest.mark.requirement("R8.1")
def test_trouble_lasts_until_a_use_goes_well() -> None:
    """A connection that can be made and a statement that fails again and again is trouble, not a row of recoveries."""
    runtime = Runtime()
    session = _session(Opening(), runtime)
    assert session.ask(_raising()) == "answer"

    def fail_for(minutes: int) -> None:
        for _ in range(minutes):
            session.ledger()
            session.failed(errors.DiskFull("no space left"))
            runtime.clock.now += 60

    fail_for(59)
    with pytest.raises(OutageTooLong):
        fail_for(3)
    assert "alert rpa_db alert" in runtime.done


@pytest.mark.requirement("R8.1")
def test_a_defect_is_nobodys_outage() -> None:
    """A statement that is wrong is raised as what it is."""
    session = _session(Opening(), Runtime())
    with pytest.raises(RpaError, match="syntax") as caught:
        session.ask(_raising(errors.SyntaxError("syntax error")))
    assert type(caught.value) is RpaError


@pytest.mark.requirement("R5.5", "R8.1")
def test_a_stop_ends_the_asking_unless_it_is_insisted() -> None:
    """None for what can be left; what must be known is asked on."""
    stop = threading.Event()
    stop.set()
    runtime = Runtime()
    assert _session(Opening(AWAY), runtime, stop).ask(_raising()) is None
    assert _session(Opening(AWAY, AWAY), runtime, stop).ask(_raising(), insist=True) == "answer"
