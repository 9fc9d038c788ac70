"""Replacing running services, on a small stack of its own."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci import docker
from ci.errors import ToolError
from ci.stack.compose import Stack, compose
from ci.stack.deploy import roll

_BASE = "python:3.13-slim-trixie"
# Healthy a moment after it started; writes when it ends, as a drain would.
_PROGRAM = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
if {broken}: sys.exit("this version does not start")
pathlib.Path("/tmp/ready").touch()
while True: signal.pause()
"""
_COMPOSE = """
services:
  migrate:
    image: {prefix}worker:development
    entrypoint: ["python3", "-c", "print('migrated', flush=True)"]
    healthcheck: {{ disable: true }}
  worker:
    image: {prefix}worker:development
    stop_grace_period: 20s
    depends_on: {{ migrate: {{ condition: service_completed_successfully }} }}
    deploy: {{ replicas: 2 }}
  other:
    image: {prefix}other:development
"""


def make(prefix: str, name: str, version: int, *, broken: bool = False) -> str:
    """An image; returns its id."""
    program = _PROGRAM.format(broken=broken).replace("\n", "\\n").replace('"', '\\"')
    dockerfile = (
        f"FROM {_BASE}\nLABEL version={version}\n"
        "HEALTHCHECK --interval=1s --timeout=10s --start-period=60s --start-interval=1s"
        ' CMD ["python3", "-c", "import os; os.stat(\'/tmp/ready\')"]\n'
        f'ENTRYPOINT ["python3", "-c", "{program}"]\n'
    )
    reference = f"{prefix}{name}:development"
    docker.run("build", "--quiet", "--tag", reference, "--tag", f"{prefix}{name}:v{version}", "-", input=dockerfile)
    found: str = docker.inspect("image", [reference])[0]["Id"]
    return found


@pytest.fixture
def stack(engine: str, image_prefix: str, tmp_path: Path) -> Iterator[Stack]:
    """Two workers, a migration, and a service that is none of our business; up and healthy."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "compose.yml").write_text(_COMPOSE.format(prefix=image_prefix))
    (tmp_path / "docker" / "compose.override.yml").write_text("services: {}\n")
    made = Stack(project=f"test-{uuid.uuid4().hex[:8]}", root=tmp_path)
    make(image_prefix, "worker", 1)
    make(image_prefix, "other", 1)
    compose("up", "--detach", "--wait", "--pull", "never", stack=made, capture=True, timeout_s=180)
    yield made
    compose("down", "--volumes", "--timeout", "2", stack=made, capture=True, timeout_s=180)


def running(stack: Stack, service: str) -> dict[str, str]:
    """Container -> image id."""
    ids = compose("ps", "--quiet", service, stack=stack, capture=True).stdout.split()
    return {one["Id"]: one["Image"] for one in docker.inspect("container", ids)}


@pytest.mark.slow
@pytest.mark.requirement("R5.6", "R5.5")
def test_running_services_are_replaced_one_container_at_a_time(stack: Stack, image_prefix: str) -> None:
    """A new one is healthy before an old one is told to stop; the migration runs first; others are left alone."""
    before, other = running(stack, "worker"), running(stack, "other")
    assert roll(["worker"], prefix=image_prefix, stack=stack) == (), "all of it is current"
    fresh = make(image_prefix, "worker", 2)
    project = f"label=com.docker.compose.project={stack.project}"
    began = docker.run("info", "--format", "{{.SystemTime}}").stdout.strip()
    shown = io.StringIO()
    done = roll(["worker"], prefix=image_prefix, stack=stack, out=shown)
    ended = docker.run("info", "--format", "{{.SystemTime}}").stdout.strip()
    assert [(one.service, one.replaced) for one in done] == [("migrate", 0), ("worker", 2)]
    after = running(stack, "worker")
    assert set(after.values()) == {fresh}
    assert len(after) == 2
    assert before.keys().isdisjoint(after)
    assert running(stack, "other") == other
    events = docker.run("events", "--since", began, "--until", ended, "--filter", project, "--format", _EVENT).stdout
    seen = [line.split("|") for line in events.splitlines()]
    workers = [(what, code) for what, service, code in seen if service == "worker" and _CHANGES.match(what)]
    healthy = 2
    least, codes = healthy, list[str]()
    for what, code in workers:
        healthy += (what == "health_status: healthy") - (what == "die")
        least = min(least, healthy)
        codes += [code] if what == "die" else []
    assert (least, codes) == (2, ["0", "0"]), "never fewer than before, and each one ended by itself"
    services = [service for what, service, _ in seen if what == "start"]
    assert services == ["migrate", "worker", "worker"]
    assert roll(["worker"], prefix=image_prefix, stack=stack) == ()


_EVENT = '{{.Action}}|{{index .Actor.Attributes "com.docker.compose.service"}}|{{index .Actor.Attributes "exitCode"}}'
_CHANGES = re.compile(r"die|health_status: healthy")


@pytest.mark.slow
@pytest.mark.requirement("R5.6")
def test_a_version_that_does_not_start_replaces_nothing(stack: Stack, image_prefix: str) -> None:
    """The old containers go on, the new one is gone, and the message says why and how to go back."""
    before = running(stack, "worker")
    make(image_prefix, "worker", 2, broken=True)
    with pytest.raises(ToolError, match=r"(?s)did not get healthy.*this version does not start.*docker tag") as caught:
        roll(["worker"], prefix=image_prefix, stack=stack, out=io.StringIO())
    assert "0 of 2 containers were replaced" in str(caught.value)
    assert running(stack, "worker") == before
    everything = compose("ps", "--all", "--quiet", "worker", stack=stack, capture=True).stdout.split()
    assert set(everything) == set(before)


@pytest.mark.requirement("R5.6")
def test_nothing_to_replace_is_said(engine: str, image_prefix: str, tmp_path: Path) -> None:
    """With the command that starts a stack."""
    with pytest.raises(ToolError, match=r"no service of project .* runs .*worker:development.*invoke compose\.up"):
        roll(["worker"], prefix=image_prefix, stack=Stack(project=f"test-{uuid.uuid4().hex[:8]}", root=tmp_path))
