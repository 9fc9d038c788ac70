"""HealthMonitor with a clock of the test's own: liveness, readiness, caching, transitions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydantic import SecretStr

from rpa_core.config.models import ContainerConfig, HealthCheckConfig, IntakeConfig, ServiceDependency
from rpa_core.errors import StoreUnavailable, UsageError
from rpa_core.health.checks import backlog_check, service_check
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.model import Check, Finding, Scope, as_json
from rpa_core.health.monitor import HealthMonitor
from rpa_core.observability.metrics import Metrics
from rpa_core.services.diagnosis import Diagnosis, Fault


class FakeClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def utcnow(self) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)


class Probe:
    """A check's function that a test can break, heal and count."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    def __call__(self) -> Finding:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Finding(status="healthy", message="answered", observed=3, unit="ms")


def at_once(_: str, work: Callable[[], None]) -> None:
    """Run a due check where it stands."""
    work()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def monitor(clock: FakeClock) -> HealthMonitor:
    return HealthMonitor(clock=clock, spawn=at_once, rand=lambda: 0.5, heartbeat_max_age_s=30, ttl_s=3)


def database(probe: Probe, **changes: object) -> Check:
    """A dependency check."""
    fields: dict[str, object] = {
        "name": "rpa_db:connection",
        "run": probe,
        "what": "database rpa_db",
        "advice": "start PostgreSQL",
        "kind": "datastore",
    }
    return Check(**(fields | changes))  # type: ignore[arg-type]  # the test's own fields


@pytest.mark.requirement("R5.1")
def test_a_dependency_cannot_decide_liveness(monitor: HealthMonitor, probe: Probe) -> None:
    """Registering a dependency check for liveness is refused with the reason."""
    with pytest.raises(UsageError, match="does not cure"):
        monitor.register(database(probe, scope=Scope.LIVE))
    monitor.register(database(probe, scope=Scope.LIVE, dependency=False))


@pytest.mark.requirement("R5.1")
def test_a_hung_loop_fails_liveness_and_a_busy_one_that_is_vouched_for_does_not(
    monitor: HealthMonitor, clock: FakeClock
) -> None:
    """The heartbeat's age decides both ways, whoever gives it; before the start it decides nothing."""
    clock.now_s += 500
    assert monitor.report(Scope.LIVE).http_status == 200
    monitor.set_started()
    for _ in range(10):  # a handler is busy for five minutes, the lease keeper vouches for it
        clock.now_s += 29
        assert monitor.report(Scope.LIVE).http_status == 200
        monitor.heartbeat("lease keeper")
    clock.now_s += 31
    report = monitor.report(Scope.LIVE)
    assert (report.http_status, report.wire) == (503, "fail")
    assert "hangs" in report.message
    assert "lease keeper" in report.message
    monitor.heartbeat()
    assert monitor.report(Scope.LIVE).http_status == 200


@pytest.mark.requirement("R5.1", "R5.5")
def test_draining_fails_readiness_at_once_and_never_liveness(monitor: HealthMonitor) -> None:
    """From the moment of draining no new work is offered, and nothing restarts the container."""
    monitor.set_started()
    assert [monitor.report(scope).http_status for scope in (Scope.LIVE, Scope.READY, Scope.STARTUP, None)] == [200] * 4
    monitor.set_draining()
    assert [monitor.report(scope).http_status for scope in (Scope.LIVE, Scope.READY, Scope.STARTUP, None)] == [
        200,
        503,
        200,
        503,
    ]
    assert monitor.draining


@pytest.mark.requirement("R5.1", "R2.1")
def test_nothing_is_ready_before_the_start(monitor: HealthMonitor) -> None:
    """Startup and readiness fail until set_started, while liveness passes."""
    assert [monitor.report(scope).http_status for scope in (Scope.LIVE, Scope.READY, Scope.STARTUP)] == [200, 503, 503]
    monitor.set_started()
    assert [monitor.report(scope).http_status for scope in (Scope.LIVE, Scope.READY, Scope.STARTUP)] == [200, 200, 200]


@pytest.mark.requirement("R5.1")
def test_probes_read_and_never_run_a_check(monitor: HealthMonitor, clock: FakeClock, probe: Probe) -> None:
    """However many probes come, a check runs once per interval, and only in the background."""
    monitor.register(database(probe))
    monitor.set_started()
    assert monitor.report(Scope.READY).http_status == 503, "not checked yet is not ready"
    for _ in range(100):
        monitor.report()
    assert probe.calls == 0
    for _ in range(50):
        monitor.tick()
        assert monitor.report(Scope.READY).http_status == 200
    assert probe.calls == 1
    clock.now_s += 3.1
    monitor.tick()
    assert probe.calls == 2


@pytest.mark.requirement("R5.1")
def test_intervals_are_jittered(clock: FakeClock, probe: Probe) -> None:
    """Containers started together do not ask a database together: 20 % either way."""
    waits = []
    for rand in (0.0, 1.0):
        monitor = HealthMonitor(clock=clock, spawn=at_once, rand=partial(float, rand), ttl_s=10)
        monitor.register(database(probe))
        monitor.tick()
        waits.append(round(monitor.tick(), 3))
    assert waits == [8.0, 12.0]


@pytest.mark.requirement("R2.5", "R5.1")
def test_a_dependency_that_fails_and_returns_needs_no_restart(
    monitor: HealthMonitor, clock: FakeClock, probe: Probe
) -> None:
    """Readiness follows the dependency down and up again; liveness stays."""
    monitor.register(database(probe))
    monitor.set_started()
    seen = []
    for error in (None, StoreUnavailable("PostgreSQL cannot be reached"), None):
        probe.error = error
        clock.now_s += 4
        monitor.tick()
        seen.append((monitor.report(Scope.READY).http_status, monitor.report(Scope.LIVE).http_status))
    assert seen == [(200, 200), (503, 200), (200, 200)]


@pytest.mark.requirement("R5.1")
def test_an_optional_dependency_only_warns(monitor: HealthMonitor, clock: FakeClock, probe: Probe) -> None:
    """What is not required is a warning: 200, with the reason."""
    monitor.register(database(probe, required=False))
    monitor.set_started()
    probe.error = OSError("away")
    monitor.tick()
    report = monitor.report(Scope.READY)
    assert (report.http_status, report.wire) == (200, "warn")
    assert "away" in report.message
    assert as_json(report, release="1", service="s", details=True)["checks"]["rpa_db:connection"][0]["status"] == "warn"


@pytest.mark.requirement("R5.1", "R2.4")
def test_a_check_that_hangs_is_a_failure_and_is_not_started_twice(clock: FakeClock, probe: Probe) -> None:
    """After its timeout a running check counts as failed; no second run is piled on it."""
    started: list[str] = []
    monitor = HealthMonitor(clock=clock, spawn=lambda name, _: started.append(name), rand=lambda: 0.5, ttl_s=3)
    monitor.register(database(probe, timeout_s=2.0))
    monitor.set_started()
    for _ in range(20):
        monitor.tick()
        clock.now_s += 1
    report = monitor.report(Scope.READY)
    assert report.http_status == 503
    assert "no answer within 2 s" in report.message
    assert started == ["rpa_db:connection"]


@pytest.mark.requirement("R5.1")
def test_a_result_that_is_never_renewed_becomes_a_failure(
    monitor: HealthMonitor, clock: FakeClock, probe: Probe
) -> None:
    """Should the background stop, old good news does not count for ever."""
    monitor.register(database(probe))
    monitor.set_started()
    monitor.tick()
    clock.now_s += 12
    assert "checks are not being run" in monitor.report(Scope.READY).message


@pytest.mark.requirement("R2.4")
def test_a_transition_is_logged_with_all_that_is_needed(
    monitor: HealthMonitor, clock: FakeClock, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing check logs once what was checked, what was seen, since when and what to do; then its recovery."""
    caplog.set_level(logging.INFO, "rpa.health")
    monitor.register(database(probe))
    monitor.set_started()
    monitor.tick()
    assert caplog.records == []
    probe.error = StoreUnavailable("PostgreSQL cannot be reached: refused")
    for _ in range(5):
        clock.now_s += 4
        monitor.tick()
    (record,) = caplog.records
    text = record.getMessage()
    for part in ("database rpa_db", "PostgreSQL cannot be reached: refused", "2024-01-01T00:16:44", "start PostgreSQL"):
        assert part in text
    assert record.levelno == logging.ERROR
    assert record.__dict__["event.action"] == "health.failed"
    probe.error = None
    clock.now_s += 4
    monitor.tick()
    assert caplog.records[-1].__dict__["event.action"] == "health.recovered"
    assert "after 20 s" in caplog.records[-1].getMessage()


@pytest.mark.requirement("R2.4")
def test_a_lasting_failure_is_said_again_but_rarely(
    monitor: HealthMonitor, clock: FakeClock, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour of failure is a dozen lines, not thousands."""
    probe.error = OSError("away")
    monitor.register(database(probe))
    monitor.set_started()
    for _ in range(1200):
        clock.now_s += 3
        monitor.heartbeat()
        monitor.tick()
    assert 10 <= len(caplog.records) <= 13


@pytest.mark.requirement("R2.4", "R5.1")
def test_a_hung_loop_is_logged(monitor: HealthMonitor, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that the loop hangs, whoever asks the probe."""
    monitor.set_started()
    monitor.tick()
    clock.now_s += 60
    monitor.tick()
    (record,) = caplog.records
    assert "the main loop hangs" in record.getMessage()
    assert "py-spy" in record.getMessage()


@pytest.mark.requirement("R5.2")
def test_dependencies_are_a_metric(clock: FakeClock, probe: Probe) -> None:
    """rpa_dependency_up is 1 while the dependency answers and 0 while it does not, required or not."""
    metrics = Metrics()
    monitor = HealthMonitor(clock=clock, spawn=at_once, metrics=metrics, rand=lambda: 0.5, ttl_s=3)
    monitor.register(database(probe, required=False))
    seen = []
    for error in (None, OSError("away"), None):
        probe.error = error
        clock.now_s += 4
        monitor.tick()
        seen.append(metrics.registry.get_sample_value("rpa_dependency_up", {"dependency": "rpa_db"}))
    assert seen == [1.0, 0.0, 1.0]


@pytest.mark.requirement("R2.4", "R2.5")
@pytest.mark.parametrize("required", [False, True])
def test_a_service_is_looked_at_for_as_long_as_the_container_runs(clock: FakeClock, required: bool) -> None:
    """Away at the start, back later: the metric and the report follow, and readiness is not theirs to take."""
    metrics = Metrics()
    monitor = HealthMonitor(clock=clock, spawn=at_once, metrics=metrics, rand=lambda: 0.5, ttl_s=3)
    away = Diagnosis(fault=Fault.REFUSED, seen="connection refused", advice="start it", final=False)
    answers: list[Diagnosis | None] = [away, None]
    service = ServiceDependency(service_name="prefect", health_endpoint="http://prefect:4200/api", required=required)
    monitor.register(service_check(service, probe=lambda _: answers.pop(0)))
    monitor.set_started()
    seen = []
    for _ in (1, 2):
        clock.now_s += 4
        monitor.heartbeat()
        monitor.tick()
        up = metrics.registry.get_sample_value("rpa_dependency_up", {"dependency": "prefect"})
        seen.append((up, monitor.report().status, monitor.report(Scope.READY).http_status))
    assert seen == [(0.0, "degraded", 200), (1.0, "healthy", 200)]


@pytest.mark.requirement("R5.1")
def test_the_monitor_tells_the_state_of_database_application_and_resources(
    monitor: HealthMonitor, clock: FakeClock, probe: Probe
) -> None:
    """Without a background the database is looked at when asked; the export holds plain values."""
    import json

    assert monitor.check_database_health().message == "no database is being checked"
    monitor.register(database(probe))
    assert monitor.check_database_health().status == "healthy"
    probe.error = OSError("away")
    database_health = monitor.check_database_health()
    assert database_health.status == "unhealthy"
    assert "away" in database_health.message
    assert monitor.check_application_health().status == "unhealthy"
    monitor.set_started()
    assert monitor.check_application_health().status == "healthy"
    usage = monitor.check_resource_usage()
    assert usage.memory_usage_mb > 1
    assert usage.cpu_usage_percent >= 0
    exported = monitor.export_health_metrics()
    assert json.loads(json.dumps(exported)) == exported
    assert (exported["live"], exported["ready"], exported["started"]) == (True, False, True)
    assert exported["checks"]["rpa_db:connection"]["status"] == "unhealthy"


@pytest.mark.requirement("R5.1")
def test_the_background_runs_checks_and_stops(probe: Probe) -> None:
    """start() checks on threads of its own, and stop() ends them."""
    looked = threading.Event()

    def look() -> Finding:
        looked.set()
        return probe()

    monitor = HealthMonitor(ttl_s=0.05)
    monitor.register(database(probe, run=look))
    monitor.start()
    monitor.start()
    try:
        assert looked.wait(20)
    finally:
        monitor.stop()
    assert not any(thread.name == "health-monitor" for thread in threading.enumerate())


@pytest.mark.requirement("R6.5")
def test_a_long_queue_is_a_warning(clock: FakeClock) -> None:
    """Beyond the high water mark the backlog check warns with the number; the container stays ready."""
    waiting = 10
    monitor = HealthMonitor(clock=clock, spawn=at_once, rand=lambda: 0.5, ttl_s=3)
    monitor.register(backlog_check("rpa2", lambda: waiting, 100))
    monitor.set_started()
    monitor.tick()
    assert monitor.report(Scope.READY).wire == "pass"
    waiting = 100
    clock.now_s += 4
    monitor.tick()
    report = monitor.report(Scope.READY)
    assert (report.http_status, report.wire) == (200, "warn")
    assert "100 records wait" in report.message


@pytest.mark.requirement("R7.3")
def test_the_surface_is_configured_by_the_container_and_hides_its_token() -> None:
    """Every limit comes from the configuration; the token is never part of a text."""
    config = ContainerConfig(
        flow_name="rpa1",
        health_check_config=HealthCheckConfig(host="127.0.0.1", port=0, details=False),
        intake=IntakeConfig(
            token=SecretStr("s3same-0pen-for-tests"), max_body_bytes=2048, max_requests=3, retry_after_s=9
        ),
    )
    http = HttpConfig.from_container(config)
    assert (http.port, http.details, len(http.grants), http.max_body_bytes, http.max_uploads, http.retry_after_s) == (
        0,
        False,
        1,
        2048,
        3,
        9,
    )
    assert "s3same" not in repr(http)
    assert repr(http.grants[0].digest) not in repr(http)
