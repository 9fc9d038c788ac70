"""What runs of a stack, and why something does not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ci.stack.compose import Stack, advice, compose

ONE_SHOT = frozenset({"migrate"})  # ends with 0 when all is well
_SHOWN_LINES = 15
_ASK_TIMEOUT_S = 60.0
# What a published port is for: (service, port in the container) -> path and use.
_USES = {
    ("haproxy", 8080): "/records/rpa1  take records in",
    ("haproxy", 8404): "/stats  load balancer",
    ("haproxy", 4200): "/  Prefect",
    ("haproxy", 9090): "/  metrics, alerts",
    ("haproxy", 9093): "/  alerts that go out",
    ("receiver", 8080): "/counts  deliveries",
}


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container as the engine sees it. `ports` are (address on this machine, port in the container)."""

    service: str
    name: str
    state: str
    health: str
    exit_code: int
    ports: tuple[tuple[str, int], ...] = ()

    @property
    def well(self) -> bool:
        """Whether it is as it should be."""
        if self.service in ONE_SHOT:
            return self.state == "exited" and self.exit_code == 0
        return self.state == "running" and self.health in ("healthy", "")

    @property
    def said(self) -> str:
        """Its state in a word or two."""
        if self.state == "exited":
            return "done" if self.well else f"exited {self.exit_code}"
        return self.health or self.state


def containers(stack: Stack) -> list[Container]:
    """Every container of the stack, by service and name. Raises ToolError where the engine does not answer."""
    listed = compose("ps", "--all", "--format", "json", stack=stack, capture=True, timeout_s=_ASK_TIMEOUT_S).stdout
    return sorted(map(_container, _documents(listed)), key=lambda one: (one.service, one.name))


def _documents(text: str) -> Iterable[dict[str, object]]:
    """One JSON document a line, or (other versions of Compose) one list."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    for line in text.splitlines():
        if line.strip():
            yield json.loads(line)


def _container(document: dict[str, object]) -> Container:
    publishers = document.get("Publishers")
    ports = {
        (f"{one['URL']}:{one['PublishedPort']}", int(one["TargetPort"]))
        for one in (publishers if isinstance(publishers, list) else ())
        if one["PublishedPort"]
    }
    return Container(
        service=str(document["Service"]),
        name=str(document["Name"]),
        state=str(document["State"]),
        health=str(document.get("Health") or ""),
        exit_code=int(str(document.get("ExitCode") or 0)),
        ports=tuple(sorted(ports, key=lambda port: port[1])),
    )


def table(found: Iterable[Container]) -> str:
    """For people: container, state, and where it can be reached from this machine."""
    rows = [("CONTAINER", "STATE", "ADDRESS")]
    for one in found:
        reached = [_address(one.service, *port) for port in one.ports] or [""]
        rows.append((one.name, one.said, reached[0]))
        rows += [("", "", address) for address in reached[1:]]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def _address(service: str, address: str, port: int) -> str:
    use = _USES.get((service, port))
    return f"http://{address}{use}" if use else f"{address} -> {port}"


def why(container: Container) -> str:
    """One container's state, what kept it from starting or what its last health check said, its last log lines."""
    lines = [f"{container.name}: {container.said}"]
    if refused := start_error(container.name):
        lines += [f"  it could not be started: {refused}", *(f"  {one}" for one in [advice(refused)] if one)]
    if container.health and (answer := _last_check(container.name)):
        lines.append(f"  health check: {answer}")
    logs = _docker("logs", "--tail", str(_SHOWN_LINES), container.name)
    lines += [f"  | {line}" for line in logs.splitlines()[-_SHOWN_LINES:]]
    lines.append(f"  more: docker logs {container.name}" if logs else "  it has logged nothing")
    return "\n".join(lines)


def start_error(name: str) -> str:
    """What the engine said when it could not start the container; empty where it could, or has not tried."""
    return _docker("inspect", "--format", "{{.State.Error}}", name).strip()


def _last_check(name: str) -> str:
    checks = json.loads(_docker("inspect", "--format", "{{json .State.Health.Log}}", name) or "null") or []
    said = str(checks[-1]["Output"]).strip().splitlines() if checks else []
    return said[-1].strip() if said else ""  # of a traceback, the error


def _docker(*arguments: str) -> str:
    """What the command says, on either output; nothing where it fails."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
