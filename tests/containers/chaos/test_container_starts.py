"""What is started is what was built; whatever happens at the start or afterwards, nothing is left."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rpa_testkit.drivers.container.address import SECRETS, SPOOL
from rpa_testkit.drivers.container.driver import ContainerDriver
from rpa_testkit.drivers.container.engine import Engine
from rpa_testkit.drivers.container.handle import EngineError
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.proxy.client import HttpRule
from rpa_testkit.scenario.model import ALERTING, Dependency, Service, Topology, edge
from rpa_testkit.waits import until
from rpa_testkit.warden.mark import LABEL

from .conftest import Run, Starting, environment_of

pytestmark = [pytest.mark.slow, pytest.mark.requirement("R3.3")]
ONE = Topology(services=(Service(replicas=1),))


def left(run_id: str) -> list[str]:
    """What carries the run's label, by the docker command alone."""
    listings: Sequence[Sequence[str]] = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
    found = []
    for listing in listings:
        done = subprocess.run(
            ["docker", *listing, "--quiet", "--filter", f"label={LABEL}={run_id}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found += done.stdout.split()
    return found


def inspected(run_id: str, node: str) -> dict[str, Any]:
    """What the Engine tells of a node's container."""
    done = subprocess.run(
        ["docker", "inspect", f"{run_id}-{node}"], capture_output=True, text=True, timeout=60, check=True
    )
    (told,) = json.loads(done.stdout)
    assert told["Config"]["Hostname"] == node
    return dict(told)


def test_the_end_leaves_logs_and_nothing_else(starting: Starting) -> None:
    """Frozen and killed ones go too. The driver's own search and the docker command agree, before and after."""
    topology = Topology(services=(Service(), Service(name="armed", replicas=1, launcher="rpa_testkit.worker")))
    with starting(topology) as system:
        Run(starting.id, system, starting.folder).wait_ready()
        system.nodes["worker-1"].pause()
        system.nodes["worker-2"].kill()
        words = system.leftovers()
        assert [line.split()[0] for line in words] == ["container"] * 5 + ["network", "volume"]
        assert len(left(starting.id)) == len(words)
    assert system.leftovers() == left(starting.id) == []
    logs = {path.stem for path in (starting.folder / "logs").iterdir()}
    assert logs == {"worker-1", "worker-2", "armed-1", "postgres", "proxy"}
    assert "worker.started" in system.nodes["armed-1"].log_text()


def test_an_error_within_the_run_leaves_nothing(starting: Starting) -> None:
    """It comes out as it is."""

    def fail() -> None:
        assert len(left(starting.id)) == 5
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), starting(ONE):
        fail()
    assert left(starting.id) == []


def test_images_that_are_missing_are_named_before_anything_is_made(starting: Starting) -> None:
    """All of them at once."""
    topology = Topology(services=(Service(image="nowhere/one:1"), Service(name="other", image="nowhere/two:2")))
    with pytest.raises(EngineError, match="has no image nowhere/one:1, nowhere/two:2"), starting(topology):
        pytest.fail("it started")
    assert left(starting.id) == []


def test_a_start_that_fails_half_way_leaves_nothing(starting: Starting) -> None:
    """PostgreSQL and the proxy run already when a flow's image turns out to have no `rpa` that could migrate."""
    other = Service(name="other", flow="rpa9", image="python:3.13-slim-trixie")
    topology = Topology(services=(Service(replicas=1), other))
    with pytest.raises(EngineError, match=r"-other-migrate ended with 127:\n.*exec rpa"), starting(topology):
        pytest.fail("it started")
    assert left(starting.id) == []
    assert (starting.folder / "logs" / "postgres.log").read_text()


def test_a_proxy_that_ends_at_once_says_why(starting: Starting) -> None:
    """An image without Python, for example."""
    with pytest.raises(EngineError, match="python"), starting(ONE, ContainerDriver(proxy_image="haproxy:3.0")):
        pytest.fail("it started")
    assert left(starting.id) == []


def test_a_dependency_without_an_image_is_refused(starting: Starting) -> None:
    """The reason names it and what there is."""
    topology = Topology(dependencies=(Dependency(name="mainframe"),))
    with pytest.raises(NotPossible, match="no image for mainframe; it knows prefect"), starting(topology):
        pytest.fail("it started")


def test_what_a_dead_tester_left_is_removed_by_the_warden(starting: Starting) -> None:
    """The label is enough: containers, the network and the volume that nobody of this process removes."""
    starting.warden.adopt(starting.id)
    with Engine.connect(starting.id) as engine:
        network = engine.network()
        made = engine.create("sleeper", network, image="python:3.13-slim-trixie", command=["sleep", "1000"])
        made.start()
        made.pause()
    assert len(left(starting.id)) == 2
    assert starting.warden.finish(starting.id)
    assert left(starting.id) == []


@pytest.mark.requirement("R9.4", "R9.5")
def test_the_built_flows_run_as_they_are(starting: Starting) -> None:
    """Images of the two-stage build with their own commands and databases, and nothing mounted into them."""
    services = (
        Service(
            name="ingest",
            flow="rpa1",
            image="rpa-flow1:development",
            replicas=1,
            env={"CONTAINER_DATABASE_SURVEY_HUB_URL": "postgresql://postgres/survey_hub"},
        ),
        Service(name="score", flow="rpa2", image="rpa-flow2:development", replicas=1),
        Service(
            name="deliver",
            flow="rpa3",
            image="rpa-flow3:development",
            replicas=1,
            env={"CONTAINER_DELIVERY_URL": "https://receiver.invalid/responses"},
        ),
    )
    with starting(Topology(services=services)) as system:
        Run(starting.id, system, starting.folder).wait_ready()
        with psycopg.connect(system.database.dsn("survey_hub")) as hub:
            assert hub.execute("SELECT count(*) FROM public.responses").fetchone() == (0,)
        for service in services:
            (node,) = service.nodes
            told = inspected(starting.id, node)
            assert told["Config"]["Image"] == service.image
            assert told["Config"]["Cmd"] == ["run"]
            assert [mount["Destination"] for mount in told["Mounts"]] == [SPOOL]
            assert environment_of(told)["CONTAINER_WORKER_ID"] == node
            assert system.proxy.stats(edge(node, "postgres")).open


@pytest.mark.requirement("R8.5")
def test_alertmanager_is_the_real_one_behind_an_edge_of_each_worker(starting: Starting) -> None:
    """What is posted through the edge is found at it; a rule of the edge answers in its place."""
    topology = Topology(services=(Service(replicas=1),), dependencies=(ALERTING,))
    with starting(topology) as system:
        Run(starting.id, system, starting.folder).wait_ready("alertmanager", timeout_s=60)
        there = edge("worker-1", "alertmanager")
        host, port = system.proxy.address(there)
        alerts = f"http://{host}:{port}/api/v2/alerts"
        body = json.dumps([{"labels": {"alertname": "Posted"}}]).encode()
        request = urllib.request.Request(alerts, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{system.url('alertmanager')}/api/v2/alerts", timeout=10) as answer:
            assert [alert["labels"]["alertname"] for alert in json.load(answer)] == ["Posted"]
        system.proxy.set_http(there, HttpRule(status=503))
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            urllib.request.urlopen(alerts, timeout=10)
        refused.value.close()


@pytest.mark.requirement("R8.4")
def test_a_worker_s_spool_outlives_it(starting: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next incarnation finds what was left, and so does the tester; the run's folder may be a relative one."""
    topology = Topology(services=(Service(replicas=1),), secret_file=True)
    monkeypatch.chdir(starting.folder.parent)
    monkeypatch.setattr(starting, "folder", Path(starting.folder.name))
    with starting(topology) as system:
        run = Run(starting.id, system, starting.folder)
        run.wait_ready("worker-1")
        told = environment_of(inspected(starting.id, "worker-1"))
        assert told["CONTAINER_SPOOL_DIR"] == SPOOL
        assert told["CONTAINER_DATABASE_RPA_DB_PASSWORD_FILE"].startswith(SECRETS)
        assert list(system.spool.glob("worker/probe.*.spool"))
        kept = system.spool / "worker" / "kept"
        kept.write_text("still there")
        node = system.nodes["worker-1"]
        node.kill()
        node.start()
        run.wait_ready("worker-1")
        assert kept.read_text() == "still there"
        assert system.secret is not None
        run.work(50)


def test_prefect_is_the_real_server_behind_an_edge_of_each_worker(starting: Starting) -> None:
    """Its edge answers, and is refused when the server is killed; workers do not wait for it."""
    topology = Topology(services=(Service(replicas=1),), dependencies=(Dependency(),))
    with starting(topology) as system:
        run = Run(starting.id, system, starting.folder)
        run.wait_ready("worker-1")
        run.wait_ready("prefect", timeout_s=120)
        there = edge("worker-1", "prefect")
        assert system.proxy.probe(there, 5).outcome == "answered"
        host, port = system.proxy.address(there)
        with urllib.request.urlopen(f"http://{host}:{port}/api/admin/version", timeout=10) as answer:
            assert answer.read().startswith(b'"3.')
        node = system.nodes["prefect"]
        node.kill()
        until(lambda: system.proxy.probe(there, 2).outcome in ("refused", "closed"), 20, "the edge to be refused")
        run.work(50)
        node.start()
        run.wait_ready("prefect", timeout_s=120)
