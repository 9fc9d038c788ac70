"""The stack comes up in order, every part of it is well, and the parts find each other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from ci.images.command import decide
from ci.images.model import KEY_LABEL
from ci.stack import operate, shell
from ci.waits import until

from .driver import PATIENCE_S, Driver, docker, inspect

pytestmark = pytest.mark.xdist_group("stack")


def _times(stack: Driver, service: str, what: str) -> list[datetime]:
    """When the containers of a service were first started or finished, in whole microseconds."""
    return [datetime.fromisoformat(one["State"][what][:26].rstrip("Z") + "+00:00") for one in stack.first[service]]


@pytest.mark.requirement("R5.7", "R2.1")
def test_every_service_is_well_and_was_started_in_order(stack: Driver) -> None:
    """Database, migration, workers, load balancer: each when what it needs was there. Two rpa1 workers."""
    found = stack.containers()
    assert all(one.well for one in found), [(one.name, one.said) for one in found if not one.well]
    services = [one.service for one in found]
    assert services.count("rpa1") == 2
    assert set(services) == {
        *("postgres", "migrate", "rpa1", "rpa2", "rpa3", "haproxy"),
        *("prefect", "prometheus", "alertmanager", "receiver"),
    }
    assert max(_times(stack, "postgres", "StartedAt")) < min(_times(stack, "migrate", "StartedAt"))
    migrated = max(_times(stack, "migrate", "FinishedAt"))
    for worker in ("rpa1", "rpa2", "rpa3"):
        assert migrated <= min(_times(stack, worker, "StartedAt"))
    assert max(_times(stack, "rpa1", "StartedAt")) < min(_times(stack, "haproxy", "StartedAt"))


@pytest.mark.requirement("R9.5")
def test_what_is_tested_is_what_is_built(stack: Driver) -> None:
    """Every worker runs an image of the two-stage build, with the key of the sources as they are."""
    _, plan = decide(stack.stack.environment)
    keys = {one.contents.image.name: one.contents.key for one in plan.decisions}
    for service, image in (("rpa1", "rpa-flow1"), ("rpa2", "rpa-flow2"), ("rpa3", "rpa-flow3")):
        for container in inspect(*(one.name for one in stack.containers() if one.service == service)):
            assert container["Config"]["Labels"][KEY_LABEL] == keys[image]


@pytest.mark.requirement("D2")
def test_the_tasks_show_the_stack(stack: Driver, capfd: pytest.CaptureFixture[str]) -> None:
    """ps, logs and the database shells work on what runs; a second up changes nothing."""
    before = {one["Id"] for one in inspect(*(one.name for one in stack.containers()))}
    assert operate.up(build=False, stack=stack.stack) == 0
    assert {one["Id"] for one in inspect(*(one.name for one in stack.containers()))} == before
    assert operate.ps(stack=stack.stack) == 0
    assert f"http://127.0.0.1:{stack.port('RPA_HTTP_PORT')}/records/rpa1" in capfd.readouterr().out
    assert operate.logs(["rpa2"], tail=50, stack=stack.stack) == 0
    assert "worker.started" in capfd.readouterr().out
    for name, table in (("rpa_db", "rpa.record"), ("survey_hub", "public.responses")):
        asked = ["--tuples-only", "--command", f"SELECT current_database(), to_regclass('{table}')"]
        assert shell.database(name, arguments=asked, stack=stack.stack) == 0
        said = capfd.readouterr().out
        assert name in said
        assert table.removeprefix("public.") in said
    assert shell.shell("rpa1", index=2, command=["rpa", "health", "--scope", "live"], stack=stack.stack) == 0


@pytest.mark.requirement("R5.2", "R5.7")
def test_prometheus_scrapes_every_part(stack: Driver) -> None:
    """All targets are up, both rpa1 workers among them; every alert rule can be evaluated."""
    wanted = sorted(["rpa1", "rpa1", "rpa2", "rpa3", "haproxy", "prefect", "prometheus", "alertmanager"])

    def all_up() -> bool:
        targets = stack.get("RPA_PROMETHEUS_PORT", "/api/v1/targets?state=active").json()["data"]["activeTargets"]
        return sorted(one["labels"]["job"] for one in targets if one["health"] == "up") == wanted

    until(all_up, timeout_s=PATIENCE_S, what="every Prometheus target to be up")

    def rules() -> list[dict[str, str]]:
        groups = stack.get("RPA_PROMETHEUS_PORT", "/api/v1/rules").json()["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if all(rule["health"] == "ok" for rule in found) else []

    names = {rule["name"] for rule in until(rules, timeout_s=PATIENCE_S, what="every rule to be evaluated")}
    assert {"QueueTooOld", "RecordsSetAside", "LeasesLost", "NoProgress", "DependencyDown", "TargetDown"} <= names


@pytest.mark.requirement("R2.5", "R2.1")
def test_workers_see_their_dependencies(stack: Driver) -> None:
    """The databases and Prefect answer every worker, even where Prefect came up after it."""
    wanted = {"rpa1": {"rpa_db", "survey_hub", "prefect"}, "rpa2": {"rpa_db", "prefect"}, "rpa3": {"rpa_db", "prefect"}}
    for service, dependencies in wanted.items():
        series = [f'rpa_dependency_up{{dependency="{one}"}}' for one in sorted(dependencies)]
        for name in stack.names(service):
            until(partial(_all_one, stack, name, series), timeout_s=PATIENCE_S, what=f"{name} to see {dependencies}")


def _all_one(stack: Driver, name: str, series: list[str]) -> bool:
    return all(stack.metric(name, one) == 1 for one in series)


@pytest.mark.requirement("R5.7")
def test_an_alert_reaches_its_receiver(stack: Driver) -> None:
    """Prometheus knows the Alertmanager, and that sends on what it is told."""

    def known() -> bool:
        data = stack.get("RPA_PROMETHEUS_PORT", "/api/v1/alertmanagers").json()["data"]
        return len(data["activeAlertmanagers"]) == 1

    until(known, timeout_s=PATIENCE_S, what="Prometheus to find the Alertmanager")
    ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    alert = [{"labels": {"alertname": "StackTest", "flow": "rpa1"}, "endsAt": ends}]
    script = (
        "import sys, urllib.request as u; u.urlopen(u.Request('http://alertmanager:9093/api/v2/alerts',"
        " sys.argv[1].encode(), {'Content-Type': 'application/json'}))"
    )
    docker("exec", stack.names("rpa1")[0], "python", "-c", script, json.dumps(alert))
    until(lambda: stack.counts()["alerts"].get("StackTest"), timeout_s=PATIENCE_S, what="the alert to be delivered")
