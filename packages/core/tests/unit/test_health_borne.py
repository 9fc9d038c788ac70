"""A failure that something bears is a warning: ready, and said so."""

from __future__ import annotations

import datetime

import pytest

from rpa_core.health.model import Check, Finding, Scope
from rpa_core.health.monitor import HealthMonitor
from rpa_core.observability.metrics import Metrics


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class _Setup:
    def __init__(self) -> None:
        self.clock = _Clock()
        self.metrics = Metrics(flow="act")
        self.finding = Finding(status="unhealthy", message="no connection")
        self.bears: str | None = "uploads are kept"
        self.monitor = HealthMonitor(
            ttl_s=1.0, metrics=self.metrics, clock=self.clock, spawn=lambda _, work: work(), rand=lambda: 0.5
        )
        check = Check(name="rpa_db:connection", run=lambda: self.finding, what="it", advice="see", kind="datastore")
        self.monitor.register(check)
        self.monitor.bear("rpa_db:connection", lambda: self.bears)
        self.monitor.set_started()

    def look(self) -> tuple[int, str, float | None]:
        """Readiness, its message, and the metric of the dependency."""
        self.clock.now += 2.0
        self.monitor.heartbeat()
        self.monitor.tick()
        report = self.monitor.report(Scope.READY)
        up = self.metrics.registry.get_sample_value("rpa_dependency_up", {"dependency": "rpa_db"})
        return report.http_status, report.message, up


@pytest.mark.requirement("R5.1", "R5.3")
def test_a_failure_that_is_borne_keeps_the_container_ready() -> None:
    """200 while it is borne, with both in the message; the dependency itself is down all the same."""
    setup = _Setup()
    assert setup.look() == (200, "rpa_db:connection: no connection; uploads are kept", 0.0)
    setup.bears = None
    assert setup.look() == (503, "rpa_db:connection: no connection", 0.0)
    setup.bears = "uploads are kept"
    assert setup.look()[0] == 200
    setup.finding = Finding(status="healthy", message="answered")
    assert setup.look() == (200, "all is well", 1.0)


@pytest.mark.requirement("R5.1")
def test_nobody_bears_for_ever() -> None:
    """When nothing looks any more, what was said about bearing it is worth nothing."""
    setup = _Setup()
    assert setup.look()[0] == 200
    setup.clock.now += 60.0
    assert setup.monitor.report(Scope.READY).http_status == 503
