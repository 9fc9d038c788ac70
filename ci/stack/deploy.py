"""Replaces running services after a rebuild, one container at a time: a new one first, then an old one goes.

So a service never has fewer healthy containers than before. One that is told to stop drains: it finishes what it can,
gives the rest back and ends. Where a new one does not get healthy, it is removed, the old ones go on, and nothing
further is touched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from ci import docker, waits
from ci.errors import ToolError
from ci.images.model import tag
from ci.stack.compose import Stack, compose, stack_of

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_ONE_OFF = "com.docker.compose.oneoff"
_LINES = "25"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """One service: how many containers were replaced (0: a one-shot that ran again), and in how many seconds."""

    service: str
    replaced: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replica:
    id: str
    name: str
    image: str  # the reference that Compose asked for
    image_id: str
    running: bool
    ended: bool  # it came to its end and is meant to have


def roll(
    images: Sequence[str],
    *,
    environment: str = "development",
    prefix: str = "",
    stack: Stack | None = None,
    timeout_s: float = 180,
    out: TextIO | None = None,
) -> tuple[Rolled, ...]:
    """Bring the running services that use `images` (declared names) onto what their tags name now.

    Services that ran to their end before (a migration) run again first. A container that is on the right image already
    is left alone. `timeout_s` is how long one container may take to get healthy. ToolError where nothing runs, or where
    a new container fails.
    """
    out = sys.stderr if out is None else out
    stack = stack or stack_of(environment)
    references = {tag(prefix, image, environment) for image in images}
    services = _services(stack, references)
    if not any(one.running for replicas in services.values() for one in replicas):
        raise ToolError(
            f"nothing to replace: no service of project {stack.project} runs {', '.join(sorted(references))}; "
            "start the stack with: invoke compose.up"
        )
    current = {name: one.id for one in docker.images() for name in one.tags}
    old = {
        service: [one for one in replicas if one.image_id != current.get(one.image, one.image_id)]
        for service, replicas in services.items()
    }
    done = []
    for service, replicas in old.items():
        if replicas and all(one.ended for one in services[service]):
            done.append(_again(stack, service, timeout_s, out))
    for service, replicas in old.items():
        if outdated := [one for one in replicas if one.running]:
            done.append(_replace(stack, service, outdated, services[service], timeout_s, out))
    return tuple(done)


def _services(stack: Stack, references: set[str]) -> dict[str, list[_Replica]]:
    found = [
        one
        for one in docker.containers()
        if one.labels.get(_PROJECT) == stack.project and one.labels.get(_ONE_OFF, "False") == "False"
    ]
    details = {one["Id"]: one for one in docker.inspect("container", [one.id for one in found])}
    services = dict[str, list[_Replica]]()
    for one in sorted(found, key=lambda one: (one.labels.get(_SERVICE, ""), one.created, one.name)):
        detail = details.get(one.id)
        if detail is not None and detail["Config"]["Image"] in references:
            state = detail["State"]
            replica = _Replica(
                id=one.id,
                name=one.name,
                image=detail["Config"]["Image"],
                image_id=detail["Image"],
                running=bool(state["Running"]),
                ended=state["Status"] == "exited" and state["ExitCode"] == 0,
            )
            services.setdefault(one.labels[_SERVICE], []).append(replica)
    return services


def _again(stack: Stack, service: str, timeout_s: float, out: TextIO) -> Rolled:
    """Let a one-shot service run once more, from its new image."""
    began = time.monotonic()
    print(f"{service}: running it again", file=out, flush=True)
    compose("up", "--detach", "--no-deps", "--force-recreate", "--pull", "never", service, stack=stack, capture=True)
    (fresh,) = compose("ps", "--all", "--quiet", service, stack=stack, capture=True).stdout.split()

    try:
        waits.until(lambda: _has_ended(fresh), timeout_s=timeout_s, what=f"the end of {service}")
    except TimeoutError as error:
        raise ToolError(f"{error}; nothing was replaced. It said:\n{_log(fresh)}") from error
    if code := _inspect(fresh)["State"]["ExitCode"]:
        raise ToolError(
            f"{service} ended with {code}, so nothing was replaced and the old containers go on:\n{_log(fresh)}"
        )
    return Rolled(service=service, replaced=0, seconds=round(time.monotonic() - began, 1))


def _replace(
    stack: Stack, service: str, outdated: list[_Replica], every: list[_Replica], timeout_s: float, out: TextIO
) -> Rolled:
    began = time.monotonic()
    count = sum(one.running for one in every)
    for number, old in enumerate(outdated, start=1):
        fresh = _start_one_more(stack, service, count)
        try:
            waits.until(partial(_is_healthy, fresh), timeout_s=timeout_s, what="healthy")
        except (TimeoutError, ToolError) as error:
            said = _log(fresh)
            docker.run("rm", "--force", "--volumes", fresh, check=False, timeout_s=60)
            raise ToolError(
                f"{service}: a container of the new image did not get healthy ({error}). It is removed; "
                f"{number - 1} of {len(outdated)} containers were replaced before, the others go on. It said:\n{said}\n"
                f"Correct that and run this again. To go back, let the tag name the image before: "
                f"docker tag {old.image_id[:19]} {old.image}"
            ) from error
        print(f"{service}: {number} of {len(outdated)} healthy, {old.name} drains", file=out, flush=True)
        docker.run("stop", old.id, timeout_s=900)  # as long as its stop_grace_period says
        docker.run("rm", "--volumes", old.id, check=False, timeout_s=60)
    return Rolled(service=service, replaced=len(outdated), seconds=round(time.monotonic() - began, 1))


def _start_one_more(stack: Stack, service: str, count: int) -> str:
    """The id of a new container beside the `count` that run."""
    before = set(compose("ps", "--all", "--quiet", service, stack=stack, capture=True).stdout.split())
    compose(
        *("up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--pull", "never"),
        *("--scale", f"{service}={len(before) + 1}", service),
        stack=stack,
        capture=True,
    )
    after = compose("ps", "--all", "--quiet", service, stack=stack, capture=True).stdout.split()
    fresh = [one for one in after if one not in before]
    if len(fresh) != 1:
        raise ToolError(
            f"{service}: Compose made {len(fresh)} new containers beside {count}, not one; look with: invoke compose.ps"
        )
    return fresh[0]


def _has_ended(container: str) -> bool:
    return _inspect(container)["State"]["Status"] in ("exited", "dead")


def _is_healthy(container: str) -> bool:
    """Whether it is; ToolError where it ended instead."""
    found = _inspect(container)
    state = found["State"]
    if state["Status"] in ("exited", "dead") or found["RestartCount"]:
        raise ToolError(f"it ended with {state['ExitCode']}")
    health = state.get("Health")
    return bool(state["Running"]) and (health is None or health["Status"] == "healthy")


def _inspect(container: str) -> dict[str, Any]:
    found = docker.inspect("container", [container])
    if not found:
        raise ToolError(f"container {container[:12]} was removed by somebody else; look with: invoke compose.ps")
    return found[0]


def _log(container: str) -> str:
    done = docker.run("logs", "--tail", _LINES, container, check=False, timeout_s=30)
    return "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()) or "  (it said nothing)"
