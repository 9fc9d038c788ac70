"""Alerts of a worker in the real Alertmanager: there when raised, gone when resolved, and back after its restart."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ci.waits import until
from ci.workspace import ROOT

from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.alerts.catalogue import disk_low, drain_timeout
from rpa_core.resilience.alerts.model import Origin
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.alerts.sinks import Alertmanager
from rpa_core.resilience.spool.directory import open_spools

from .driver import docker, free_ports

IMAGE = "prom/alertmanager:v0.28.1"
PATIENCE_S = 60.0
Begin = Callable[..., Alerts]


class Server:
    """One Alertmanager in a container, on a port of its own."""

    def __init__(self) -> None:
        self.name = f"test-alertmanager-{uuid.uuid4().hex[:8]}"
        self.port = int(free_ports()["RPA_ALERTMANAGER_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        mounted = f"{ROOT / 'docker' / 'alertmanager'}:/etc/alertmanager:ro"
        ports = f"127.0.0.1:{self.port}:9093"
        arguments = ["--config.file=/etc/alertmanager/alertmanager.yml", "--cluster.listen-address="]
        docker("run", "--detach", "--name", self.name, "--volume", mounted, "--publish", ports, IMAGE, *arguments)
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        until(self._answers, timeout_s=PATIENCE_S, what="Alertmanager to answer", every_s=0.1)

    def alerts(self) -> list[dict[str, Any]]:
        """What it shows as active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def names(self) -> list[str]:
        """Their names."""
        return sorted(alert["labels"]["alertname"] for alert in self.alerts())

    def _answers(self) -> bool:
        try:
            self.alerts()
        except OSError:
            return False
        return True


@pytest.fixture
def server(engine: str) -> Iterator[Server]:
    """A running one; removed afterwards."""
    started = Server()
    try:
        started.start()
        yield started
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", started.name], capture_output=True, check=False)


@pytest.fixture
def begin(server: Server, tmp_path: Path) -> Iterator[Begin]:
    """Alerts of one life of a worker after the other."""
    with ExitStack() as stack:

        def life(incarnation: str, *, ttl_s: float = 1800.0) -> Alerts:
            stack.close()
            spools = open_spools(
                tmp_path,
                flow="rpa1",
                label="w1",
                incarnation=incarnation,
                max_bytes=2**22,
                max_age_s=3600,
                reserve_bytes=0,
            )
            stack.callback(spools.close)
            alerts = Alerts(
                [Alertmanager(server.url, timeout_s=5, ttl_s=ttl_s)],
                origin=Origin(service="rpa1", instance="w1", environment="test"),
                spools=spools,
                opened=OpenAlerts(tmp_path / "alerts"),
                redactor=Redactor(),
                timeout_s=5,
                ttl_s=ttl_s,
            )
            alerts.start()
            stack.callback(alerts.stop, 5.0)
            return alerts

        yield life


@pytest.mark.requirement("R8.5")
def test_alertmanager_shows_what_is_raised_until_the_next_good_start(server: Server, begin: Begin) -> None:
    """A life raises and ends; the alert stays, with its labels, its end and what to do; the next life ends it."""
    assert begin("1").raise_(drain_timeout("rpa1", 25))
    (shown,) = server.alerts()
    assert shown["labels"] == {
        "alertname": "WorkerEnding",
        "severity": "critical",
        "service": "rpa1",
        "instance": "w1",
        "environment": "test",
        "reason": "drain-timeout",
    }
    assert "CONTAINER_SHUTDOWN_TIMEOUT" in shown["annotations"]["description"]
    assert shown["endsAt"] > shown["startsAt"]
    again = begin("2")
    assert server.names() == ["WorkerEnding"], "a start alone ends nothing"
    again.resolve_earlier()
    until(lambda: server.names() == [], timeout_s=PATIENCE_S, what="the alert to be over", every_s=0.1)


@pytest.mark.requirement("R8.5")
def test_alertmanager_away_gets_it_later_and_after_a_restart_again(server: Server, begin: Begin) -> None:
    """Away: it waits. Back: it comes. Restarted, it has forgotten everything: it comes again, and ends."""
    docker("stop", server.name)
    alerts = begin("1", ttl_s=6)
    low = disk_low("rpa1", Path("/spool"), 1, 2)
    assert not alerts.raise_(low)
    docker("start", server.name)
    server.wait()
    until(lambda: server.names() == ["DiskLow"], timeout_s=PATIENCE_S, what="the alert to come", every_s=0.1)
    docker("restart", server.name)
    server.wait()
    until(lambda: server.names() == ["DiskLow"], timeout_s=PATIENCE_S, what="the alert to come again", every_s=0.1)
    alerts.resolve("DiskLow", "/spool")
    until(lambda: server.names() == [], timeout_s=PATIENCE_S, what="the alert to be over", every_s=0.1)


@pytest.mark.requirement("R8.5")
def test_alertmanager_ends_what_nobody_renews(server: Server, begin: Begin) -> None:
    """A worker that dies with an alert open and never comes back: the alert ends at the time that it was given."""
    alerts = begin("1", ttl_s=4)
    assert alerts.raise_(drain_timeout("rpa1", 25))
    alerts.stop(1.0)
    assert server.names() == ["WorkerEnding"]
    until(lambda: server.names() == [], timeout_s=PATIENCE_S, what="the alert to end", every_s=0.2)
