"""Waiting for dependencies and judging them, with made-up probes and a clock that moves only in the waits."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from rpa_core.config.models import ContainerConfig, DatabaseConfig, ServiceDependency
from rpa_core.errors import DependencyUnavailable, StoreRefused
from rpa_core.services import waiting
from rpa_core.services.diagnosis import Diagnosis, Fault, of_database, of_status
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.services.validator import ConfigurationValidator
from rpa_core.services.waiting import Waiter

AWAY = Diagnosis(fault=Fault.REFUSED, seen="connection refused", advice="start it", final=False)
WRONG = Diagnosis(fault=Fault.PASSWORD, seen="password authentication failed", advice="correct it", final=True)
Answers = Callable[[], Diagnosis | None]


class PausedClock:
    def __init__(self) -> None:
        self.now = 50.0
        self.delays: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        self.delays.append(seconds)
        self.now += seconds
        return stop.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PausedClock:
    made = PausedClock()
    monkeypatch.setattr(waiting, "pause", made.pause)
    return made


def after(times: int, diagnosis: Diagnosis = AWAY) -> Answers:
    left = [diagnosis] * times

    def probe() -> Diagnosis | None:
        return left.pop() if left else None

    return probe


def configuration(**required: bool) -> ContainerConfig:
    return ContainerConfig(
        flow_name="f",
        database_connections={"rpa_db": DatabaseConfig(connection_string="postgresql://u@h/d")},  # type: ignore[arg-type]
        service_dependencies=[
            ServiceDependency(service_name=name, health_endpoint="http://h/", required=needed)
            for name, needed in required.items()
        ],
    )


@pytest.mark.requirement("R2.1", "R2.4")
def test_each_wait_says_what_since_when_what_was_seen_and_when_next(
    clock: PausedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Every failed attempt is a log line with all of it, as text and as fields; the answer is one, too."""
    caplog.set_level(logging.INFO, "rpa.services")
    waited = Waiter(clock=clock, rand=random.Random(1)).wait("database rpa_db", after(2), 60)
    assert (waited.answered, waited.attempts) == (True, 3)
    first, second, last = caplog.records
    assert "waiting for database rpa_db since 2030-01-01T00:00:50" in first.message
    assert "connection refused; start it" in first.message
    assert "next try in" in second.message
    assert vars(second)["rpa.attempt"] == 2
    assert vars(second)["rpa.since"] == vars(first)["rpa.since"]
    assert vars(last)["event.action"] == "dependency.answered"


@pytest.mark.requirement("R2.2")
def test_delays_grow_with_jitter_to_a_cap_and_end_at_the_deadline(clock: PausedClock) -> None:
    """Capped and random, never beyond the total time."""
    waited = Waiter(clock=clock, rand=random.Random(3)).wait("x", after(10_000), 60)
    assert not waited.answered
    assert clock.now == pytest.approx(110.0)
    assert all(0 <= delay <= 5.0 for delay in clock.delays)
    assert len(set(clock.delays)) > 10
    assert max(clock.delays[:2]) <= 0.4


@pytest.mark.requirement("R2.2")
def test_a_final_diagnosis_ends_the_wait_at_once(clock: PausedClock, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is not waited for."""
    waited = Waiter(clock=clock).wait("x", after(5, WRONG), 60)
    assert (waited.answered, waited.attempts, clock.delays) == (False, 1, [])
    assert "giving up: waiting cannot help" in caplog.text


@pytest.mark.requirement("R2.1")
def test_a_wait_ends_with_its_attempts_or_with_the_process(clock: PausedClock) -> None:
    """Attempts can be limited; a stop ends the wait."""
    assert Waiter(clock=clock).wait("x", after(9), 60, max_attempts=3).attempts == 3
    stop = threading.Event()
    stop.set()
    waited = Waiter(clock=clock, stop=stop).wait("x", after(9), 60)
    assert (waited.attempts, waited.stopped) == (1, True)


def orchestrator(
    clock: PausedClock, database: Answers, services: dict[str, Answers], **required: bool
) -> tuple[ServiceOrchestrator, list[tuple[str, bool]]]:
    told: list[tuple[str, bool]] = []
    made = ServiceOrchestrator(
        configuration(**required),
        clock=clock,
        rand=random.Random(1),
        on_state=lambda name, up: told.append((name, up)),
        probe_database=lambda name, config: database(),
        probe_service=lambda service: services[service.service_name](),
    )
    return made, told


@pytest.mark.requirement("R2.1")
def test_required_ones_are_waited_for_and_optional_ones_do_not_block(clock: PausedClock) -> None:
    """Work starts when all required answer; an optional one is looked at once."""
    made, told = orchestrator(clock, after(2), {"geo": after(1), "prefect": after(99)}, geo=True, prefect=False)
    assert made.wait_for_dependencies(60)
    assert told == [("database:rpa_db", True), ("geo", True), ("prefect", False)]
    assert made.validate_service_health().status == "degraded"


@pytest.mark.requirement("R2.1", "R2.2")
def test_what_does_not_come_is_named(clock: PausedClock) -> None:
    """False at the deadline, or an error with exit code 69 that says which, what was seen and what to do."""
    made, _ = orchestrator(clock, after(0), {"geo": after(9999)}, geo=True)
    assert not made.wait_for_dependencies(10)
    with pytest.raises(DependencyUnavailable, match=r"geo: connection refused; start it") as caught:
        made.require_dependencies(10)
    assert caught.value.exit_code == 69
    assert made.validate_service_health().status == "unhealthy"


@pytest.mark.requirement("R2.2")
def test_a_refusal_is_an_error_of_its_own(clock: PausedClock) -> None:
    """A wrong password ends the start at once with exit code 77."""
    made, _ = orchestrator(clock, after(9, WRONG), {})
    with pytest.raises(StoreRefused, match="database rpa_db: password authentication failed; correct it"):
        made.wait_for_database(60)
    assert clock.delays == []


@pytest.mark.requirement("R2.1")
def test_prefect_is_waited_for_only_if_configured(clock: PausedClock) -> None:
    """Without it there is nobody to tell."""
    assert orchestrator(clock, after(0), {})[0].wait_for_prefect_server(1)
    assert orchestrator(clock, after(0), {"prefect": after(2)}, prefect=False)[0].wait_for_prefect_server(60)
    assert not orchestrator(clock, after(0), {"prefect": after(999)}, prefect=False)[0].wait_for_prefect_server(5)


@pytest.mark.requirement("R2.4", "R2.5")
def test_a_failure_is_remembered_since_it_began_and_recovers_by_itself(
    clock: PausedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The state keeps when trouble began; the next good look ends it and says how long it lasted."""
    caplog.set_level(logging.INFO, "rpa.services")
    made, told = orchestrator(clock, after(0), {})
    made.handle_service_failure("rpa_db", ConnectionError("reset by peer"))
    clock.now += 30
    made.handle_service_failure("database:rpa_db", ConnectionError("reset again"))
    state = made.states()["database:rpa_db"]
    assert (state.up, state.required, state.since) == (False, True, clock.utcnow() - timedelta(seconds=30))
    assert "ConnectionError: reset again; it is tried again by itself" in state.message
    clock.now += 12
    assert made.validate_service_health().status == "healthy"
    assert "database rpa_db is back after 42.0 s" in caplog.text
    assert told[-1] == ("database:rpa_db", True)


@pytest.mark.requirement("R1.3", "R2.2")
@pytest.mark.parametrize(
    ("message", "state", "fault", "final"),
    [
        ('FATAL:  password authentication failed for user "u"', None, Fault.PASSWORD, True),
        ("fe_sendauth: no password supplied", None, Fault.PASSWORD, True),
        ('FATAL:  database "x" does not exist', None, Fault.NO_DATABASE, True),
        ('FATAL:  role "x" does not exist', None, Fault.NO_ROLE, True),
        ("server does not support SSL, but SSL was required", None, Fault.TLS, True),
        ("SSL error: certificate verify failed", None, Fault.TLS, True),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', None, Fault.NOT_ADMITTED, True),
        ("FATAL:  the database system is starting up", None, Fault.STARTING, False),
        ("FATAL:  sorry, too many clients already", None, Fault.FULL, False),
        ('could not translate host name "x" to address', None, Fault.UNRESOLVABLE, False),
        ("connection timeout expired", None, Fault.TIMEOUT, False),
        ("Connection refused", None, Fault.REFUSED, False),
        ("received invalid response to SSL negotiation: H", None, Fault.NOT_POSTGRES, True),
        ("terminating connection due to administrator command", "57P01", Fault.STARTING, False),
        ("cannot connect now", "57P03", Fault.STARTING, False),
        ("too many connections", "53300", Fault.FULL, False),
        ("permission denied for database", "42501", Fault.NOT_ADMITTED, True),
        ("who knows", None, Fault.OTHER, False),
    ],
)
def test_database_errors_are_told_apart(message: str, state: str | None, fault: Fault, final: bool) -> None:
    """Each kind has its own advice; only what a person must correct is final."""
    found = of_database(message, state)
    assert (found.fault, found.final) == (fault, final)
    assert found.advice


@pytest.mark.requirement("R2.2")
@pytest.mark.parametrize(
    ("status", "final"), [(401, True), (403, True), (405, True), (404, False), (429, False), (503, False)]
)
def test_http_statuses_are_told_apart(status: int, final: bool) -> None:
    """Refusals are final, what may pass is waited for."""
    assert of_status(status).final is final
    assert str(status) in of_status(status).seen


@pytest.mark.requirement("R1.6", "R1.3")
def test_the_startup_report_holds_everything_for_people_and_scripts() -> None:
    """Problems of all areas at once; a service that is not required is only a warning."""
    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_CHUNK_SIZE": "0",
        "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d",
        "CONTAINER_SERVICE_GEO_URL": "http://geo/",
        "CONTAINER_SERVICE_PREFECT_URL": "http://prefect/",
    }
    validator = ConfigurationValidator(
        environ, probe_database=lambda name, config: WRONG, probe_service=lambda service: AWAY
    )
    assert not validator.validate_environment_variables().valid
    assert not validator.validate_database_connections()
    services = validator.validate_service_dependencies()
    assert [problem.variable for problem in services.problems] == ["CONTAINER_SERVICE_GEO_URL"]
    assert [problem.variable for problem in services.warnings] == ["CONTAINER_SERVICE_PREFECT_URL"]
    report = validator.generate_startup_report()
    assert not report.ready
    codes = [str(problem.code) for problem in report.problems]
    assert codes == ["CFG003", "CFG008", "CFG009"]
    parsed = json.loads(report.to_json())
    assert parsed["ready"] is False
    assert [check["area"] for check in parsed["checks"]] == ["environment", "databases", "services"]
    assert parsed["sources"]["CONTAINER_CHUNK_SIZE"] == "environment"
    text = report.to_text()
    assert "Configuration invalid: 3 problems" in text
    assert "Worth knowing:" in text
    good = ConfigurationValidator(
        environ | {"CONTAINER_CHUNK_SIZE": "1"},
        probe_database=lambda name, config: None,
        probe_service=lambda service: None,
    ).generate_startup_report()
    assert good.ready
    assert good.to_text().endswith("Ready to start.")
