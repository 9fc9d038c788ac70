"""The compose files as Compose itself reads them. Needs the command line alone, no engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ci.stack import operate, settings
from ci.stack.compose import FILES, Stack, compose
from ci.stack.report import ONE_SHOT
from ci.workspace import ROOT

WORKERS = {"rpa1", "rpa2", "rpa3"}
MAY_WRITE_ROOT = {"development": WORKERS, "production": set[str]()}  # files are copied into them
OUR_TAGS = re.compile(r"(test-x/)?rpa-(base|flow\d):(development|production)")
PINNED = re.compile(r"[a-z/]+:v?\d[\w.-]*")


@pytest.fixture(scope="session")
def command_line() -> None:
    """The Compose plugin; without it these tests are skipped, except in CI."""
    try:
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60, check=False)
        missing = done.returncode != 0
    except OSError:
        missing = True
    if missing:
        said = "no `docker compose`: install Docker's command line and its Compose plugin"
        pytest.fail(said) if os.environ.get("CI") else pytest.skip(said)


@pytest.fixture(scope="module")
def env_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("env")


@pytest.fixture(params=list(FILES))
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(command_line: None, environment: str, env_folder: Path) -> dict[str, Any]:
    """One environment's files, merged and filled in."""
    return read(Stack(environment=environment, variables={"RPA_ENV_DIR": str(env_folder)}))


def read(stack: Stack) -> dict[str, Any]:
    settings.ensure(stack)
    found: dict[str, Any] = json.loads(compose("config", "--format", "json", stack=stack, capture=True).stdout)
    return found


def each(project: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from project["services"].items()


def seconds(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+)m)?(?:([\d.]+)s)?", text)
    assert match, text
    return 60 * float(match[1] or 0) + float(match[2] or 0)


@pytest.mark.requirement("R5.7", "D2")
def test_every_combination_is_valid(command_line: None, env_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`invoke compose.config` reads them all without an error or a warning."""
    code = operate.config(stack=Stack(variables={"RPA_ENV_DIR": str(env_folder)}))
    assert (code, capsys.readouterr().out.count(": valid")) == (0, len(FILES))


@pytest.mark.requirement("R5.7")
def test_the_services(project: dict[str, Any], environment: str) -> None:
    """What the stack is made of; the receiver is for development alone."""
    services = {*WORKERS, "postgres", "migrate", "haproxy", "prefect", "prometheus", "alertmanager"}
    assert set(project["services"]) == services | ({"receiver"} if environment == "development" else set())
    assert project["services"]["rpa1"]["deploy"]["replicas"] == 2


@pytest.mark.requirement("R7.1", "R7.4")
def test_every_service_is_hardened(project: dict[str, Any], environment: str) -> None:
    """Not root, no capabilities, nothing to be gained, a root that is not writable, an init, memory to write to."""
    for name, service in each(project):
        user = service["user"].split(":")
        assert all(part.isdigit() and int(part) > 0 for part in user), name
        assert len(user) == 2, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) is (name not in MAY_WRITE_ROOT[environment]), name
        assert service["init"] is True, name
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"]), name
        assert not {"privileged", "pid", "ipc", "network_mode", "devices", "userns_mode"} & set(service), name
        for mount in service.get("volumes", ()):
            assert mount["type"] == "volume" or mount.get("read_only") is True, (name, mount)
            assert "docker.sock" not in mount["source"], name


@pytest.mark.requirement("R6.1")
def test_every_service_has_limits(project: dict[str, Any]) -> None:
    """Processors, memory, processes, and how much it may log."""
    for name, service in each(project):
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0, name
        assert int(limits["memory"]) >= 2**24, name
        assert limits["pids"] > 0, name
        assert service["logging"]["driver"] == "json-file", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


@pytest.mark.requirement("R5.1", "R5.7")
def test_every_service_is_asked_how_it_is(project: dict[str, Any]) -> None:
    """A check that is no shell line, patience at the start, quick answers during it; and a restart policy."""
    for name, service in each(project):
        check = service["healthcheck"]
        if name in ONE_SHOT:
            assert check["disable"] is True
            assert service["restart"] == "on-failure:5"
            continue
        assert check["test"][0] == "CMD", name
        assert seconds(check["start_period"]) >= 30, name
        assert seconds(check["start_interval"]) <= 2, name
        assert seconds(check["timeout"]) < seconds(check["interval"]) * check["retries"], name
        assert service["restart"] == "unless-stopped", name


@pytest.mark.requirement("R5.5")
def test_the_grace_outlasts_the_drain(project: dict[str, Any], env_folder: Path) -> None:
    """Compose waits as long as it tells the worker, and the worker's drain is shorter."""
    for name, service in each(project):
        grace = seconds(service["stop_grace_period"])
        assert grace >= 10, name
        if name in WORKERS:
            assert seconds(service["environment"]["CONTAINER_STOP_GRACE"]) == grace, name
            assert seconds(service["environment"]["CONTAINER_SHUTDOWN_TIMEOUT"]) < grace, name


@pytest.mark.requirement("R2.1", "R5.7")
def test_services_wait_for_what_they_need(project: dict[str, Any]) -> None:
    """By condition, not by order of start; workers never for Prefect, which they only report to."""
    services = project["services"]

    def awaited(name: str) -> dict[str, str]:
        return {other: what["condition"] for other, what in services[name].get("depends_on", {}).items()}

    assert awaited("migrate") == {"postgres": "service_healthy"}
    for worker in WORKERS:
        assert awaited(worker) == {"postgres": "service_healthy", "migrate": "service_completed_successfully"}
        assert services[worker]["environment"]["CONTAINER_SERVICE_PREFECT_REQUIRED"] == "false"
        # `restart: true` would restart every worker with the database; they reconnect by themselves.
        assert not any(what.get("restart") for what in services[worker]["depends_on"].values())
    assert awaited("haproxy") == {"rpa1": "service_healthy"}


@pytest.mark.requirement("R7.3")
def test_ports_are_for_this_machine_alone(project: dict[str, Any], environment: str) -> None:
    """Every published port is on 127.0.0.1, and HAProxy's, which checks who asks; the receiver checks by itself."""
    published = {name: service["ports"] for name, service in each(project) if service.get("ports")}
    assert all(port["host_ip"] == "127.0.0.1" for ports in published.values() for port in ports)
    assert set(published) == {"haproxy"} | ({"receiver"} if environment == "development" else set())
    behind = {name for name, service in each(project) if "published" in service["networks"]}
    assert behind == {"haproxy"}


@pytest.mark.requirement("R7.3")
def test_every_door_of_haproxy_checks_who_asks() -> None:
    """A frontend that is added has the same rules, or this test fails."""
    haproxy = (ROOT / "docker/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    frontends = re.findall(r"^(?:frontend|listen) .*$", haproxy, re.MULTILINE)
    assert len(frontends) == 5
    assert all(line.endswith(" from guarded") for line in frontends)
    assert "monitor-uri" not in haproxy, "it answers before any rule"


@pytest.mark.requirement("R7.3")
def test_the_database_is_in_a_network_without_a_way_out(project: dict[str, Any]) -> None:
    """Only the workers and the migration meet it there, and they verify its certificate."""
    assert project["networks"]["database"]["internal"] is True
    assert project["networks"]["services"]["internal"] is True
    assert set(project["services"]["postgres"]["networks"]) == {"database"}
    inside = {name for name, service in each(project) if "database" in service["networks"]}
    assert inside == WORKERS | {"postgres", "migrate"}
    for name in inside - {"postgres"}:
        urls = [text for key, text in project["services"][name]["environment"].items() if "DATABASE" in key]
        assert urls, name
        for url in urls:
            assert re.fullmatch(
                r"postgresql://\w+@postgres:5432/\w+\?sslmode=verify-full&sslrootcert=/run/secrets/ca\.crt", url
            ), url


@pytest.mark.requirement("R7.2")
def test_secrets_are_files(project: dict[str, Any]) -> None:
    """No environment holds a password or a token, and each service gets only the secrets it needs."""
    held = {name: {one["source"] for one in service.get("secrets", ())} for name, service in each(project)}
    for name, service in each(project):
        for key, text in (service.get("environment") or {}).items():
            secret = re.search(r"PASSWORD|TOKEN|SECRET|AUTH|KEY", key)
            assert secret is None or (key.endswith("_FILE") and text.startswith("/run/secrets/")), (name, key)
            assert not re.search(r"://[^/@\s]*:[^/@\s]*@", text or ""), (name, key)
    both = {"database_rpa_db_password", "database_survey_hub_password"}
    assert held["rpa1"] == both | {"intake_token", "ca.crt"}
    assert held["rpa2"] == {"database_rpa_db_password", "ca.crt"}
    assert held["rpa3"] == {"database_rpa_db_password", "delivery_token", "ca.crt"}
    assert held["migrate"] == both | {"ca.crt"}
    assert held["postgres"] == both | {"postgres_password", "server.crt", "server.key"}
    assert not any(held[name] for name in ("haproxy", "prefect", "prometheus", "alertmanager"))


@pytest.mark.requirement("R5.7")
def test_images_are_pinned(command_line: None, environment: str, env_folder: Path) -> None:
    """No `latest`: a version, or ours by environment, under the prefix that is asked for."""
    variables = {"RPA_ENV_DIR": str(env_folder), "RPA_IMAGE_PREFIX": "test-x/"}
    for name, service in each(read(Stack(environment=environment, variables=variables))):
        image = service["image"]
        assert OUR_TAGS.fullmatch(image) or PINNED.fullmatch(image), name
        if "rpa-" in image:
            assert image.startswith("test-x/"), name
            assert image.endswith(f":{environment}"), name


@pytest.mark.requirement("R5.7", "R6.1")
def test_production_takes_its_limits_from_a_file(command_line: None, tmp_path: Path) -> None:
    """docker/env/stack.env decides, and a variable of the shell wins over it."""
    stack = Stack(environment="production", variables={"RPA_ENV_DIR": str(tmp_path), "RPA2_MEMORY": "300m"})
    settings.ensure(stack)
    text = (tmp_path / "stack.env").read_text(encoding="utf-8")
    for name, value in (("RPA1_REPLICAS", "5"), ("RPA1_MEMORY", "1g"), ("RPA2_MEMORY", "1g"), ("RPA_HTTP_PORT", "9")):
        text = re.sub(f"(?m)^{name}=.*$", f"{name}={value}", text)
    (tmp_path / "stack.env").write_text(text, encoding="utf-8")
    services = read(stack)["services"]
    assert services["rpa1"]["deploy"]["replicas"] == 5
    assert int(services["rpa1"]["deploy"]["resources"]["limits"]["memory"]) == 2**30
    assert int(services["rpa2"]["deploy"]["resources"]["limits"]["memory"]) == 300 * 2**20
    assert services["haproxy"]["ports"][0]["published"] == "9"


@pytest.mark.requirement("R4.5")
def test_development_reloads(command_line: None, env_folder: Path) -> None:
    """The supervisor runs the worker, so that a saved file restarts the worker alone; rpa3 delivers to the receiver."""
    services = read(Stack(variables={"RPA_ENV_DIR": str(env_folder)}))["services"]
    for worker in WORKERS:
        assert (services[worker]["entrypoint"], services[worker]["command"]) == (["rpa-reload"], ["run"])
    assert services["rpa3"]["environment"]["CONTAINER_DELIVERY_URL"] == "http://receiver:8080/scores"


@pytest.mark.requirement("R5.2", "R5.4")
def test_the_parts_know_each_other() -> None:
    """Prometheus scrapes every service that has metrics; HAProxy has as many slots as compose.scale allows."""
    prometheus = (ROOT / "docker/prometheus/prometheus.yml").read_text(encoding="utf-8")
    jobs = set(re.findall(r"job_name: (\w+)", prometheus))
    assert jobs == WORKERS | {"haproxy", "prefect", "alertmanager", "prometheus"}
    haproxy = (ROOT / "docker/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    assert re.findall(r"server-template \S+ (\d+) rpa1:8080", haproxy) == [str(operate.MOST_REPLICAS["rpa1"])]
    assert "uri /health/ready" in haproxy


@pytest.mark.requirement("R5.2")
def test_what_is_to_be_watched_has_an_alert() -> None:
    """Every metric of the table in docs/operations.md stands in a rule, and every rule says what to do."""
    table = (
        (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("## What to watch")[2].partition("\n## ")[0]
    )
    watched = re.findall(r"^\| `([a-z_]+)", table, re.MULTILINE)
    assert len(watched) >= 5
    rules = (ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8")
    assert [metric for metric in watched if metric not in rules] == []
    alerts = rules.count("- alert:")
    assert rules.count("action:") == rules.count("summary:") == rules.count("severity:") == alerts
