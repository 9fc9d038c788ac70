"""What `invoke compose.*` does. Every function prints for people, answers an exit code and raises ToolError."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ci.errors import ToolError
from ci.stack import report, secrets, settings
from ci.stack.compose import FILES, Stack, compose, stack_of

MOST_REPLICAS = {"rpa1": 16}  # the slots that haproxy.cfg has
_ASK_TIMEOUT_S = 60.0


def prepare(stack: Stack) -> None:
    """Make the secrets and env files that are missing, say so, and check what can be checked before a start."""
    for path in settings.ensure(stack):
        print(f"made {_shown(path, stack)} from its example")
    if made := secrets.ensure(stack.secrets):
        print(f"made {', '.join(made)} in {_shown(stack.secrets, stack)}")
    for warning in secrets.warnings(stack.secrets):
        print(f"warning: {warning}", file=sys.stderr)
    if closed := list(_unreadable(stack)):
        raise ToolError(
            f"users of containers cannot read {', '.join(_shown(path, stack) for path in closed)}, which are mounted "
            "into them: chmod -R o+rX docker/"
        )
    settings.check(stack)


def up(
    environment: str = "development",
    *,
    build: bool = True,
    timeout_s: int = 300,
    services: Sequence[str] = (),
    stack: Stack | None = None,
) -> int:
    """Start the stack, or the named services and what they need, and wait until all are healthy.

    What is missing is made first; with `build`, images that are out of date are built. A running stack takes over
    what changed, and nothing else is touched.
    """
    chosen = stack or stack_of(environment)
    prepare(chosen)
    if build:
        _build(chosen.environment)
    wait = ["--wait", "--wait-timeout", str(timeout_s)]
    orphans = [] if services else ["--remove-orphans"]
    done = compose("up", "--detach", *wait, *orphans, *services, stack=chosen, check=False)
    found = report.containers(chosen)
    if done.returncode:
        raise ToolError(_what_went_wrong(found, done.returncode, timeout_s))
    print(report.table(found))
    return 0


def down(environment: str = "development", *, volumes: bool = False, stack: Stack | None = None) -> int:
    """End the stack: workers drain, databases are shut down. Data stay unless `volumes`."""
    chosen = stack or stack_of(environment)
    settings.ensure(chosen)
    compose("down", "--remove-orphans", *(["--volumes"] if volumes else []), stack=chosen)
    return 0


def ps(environment: str = "development", *, stack: Stack | None = None) -> int:
    """Show every container; 1 where one is not as it should be."""
    chosen = stack or stack_of(environment)
    found = report.containers(chosen)
    if not found:
        print(f"nothing runs under the name {chosen.project}; start it with: invoke compose.up")
        return 1
    print(report.table(found))
    return 0 if all(one.well for one in found) else 1


def logs(
    services: Sequence[str] = (),
    *,
    environment: str = "development",
    follow: bool = False,
    tail: int = 100,
    stack: Stack | None = None,
) -> int:
    """Show the last `tail` lines of each container of the services (default: all), and with `follow` what comes."""
    chosen = stack or stack_of(environment)
    _check_services(chosen, services)
    options = [*(["--follow"] if follow else []), "--tail", str(tail)]
    return compose("logs", *options, *services, stack=chosen, check=False).returncode


def restart(services: Sequence[str] = (), *, environment: str = "development", stack: Stack | None = None) -> int:
    """Stop and start the containers of the services (default: all) as they are; workers drain first."""
    chosen = stack or stack_of(environment)
    _check_services(chosen, services)
    compose("restart", *services, stack=chosen)
    return 0


def scale(
    sizes: Sequence[str], *, environment: str = "development", timeout_s: int = 120, stack: Stack | None = None
) -> int:
    """Run so many of each: ["rpa1=3"]. New ones are waited for, surplus ones drain; the others stay as they are."""
    chosen = stack or stack_of(environment)
    wanted = dict(_size(size) for size in sizes)
    if not wanted:
        raise ToolError("say how many of what: invoke compose.scale rpa1=3")
    _check_services(chosen, list(wanted))
    for service, number in wanted.items():
        if number > MOST_REPLICAS.get(service, number):
            raise ToolError(
                f"{service}={number} is more than the {MOST_REPLICAS[service]} that docker/haproxy/haproxy.cfg has "
                "slots for; raise server-template there, and MOST_REPLICAS in ci/stack/operate.py"
            )
    options = [part for service, number in wanted.items() for part in ("--scale", f"{service}={number}")]
    wait = ["--wait", "--wait-timeout", str(timeout_s)]
    done = compose("up", "--detach", "--no-deps", "--no-recreate", *wait, *options, *wanted, stack=chosen, check=False)
    found = [one for one in report.containers(chosen) if one.service in wanted]
    if done.returncode:
        raise ToolError(_what_went_wrong(found, done.returncode, timeout_s))
    print(report.table(found))
    return 0


def config(*, stack: Stack | None = None) -> int:
    """Validate the files of every environment; 1 and the reason where one does not hold."""
    failed = 0
    for environment in FILES:
        chosen = stack_of(environment, variables=stack.variables if stack else None)
        settings.ensure(chosen)
        done = compose("config", "--quiet", stack=chosen, check=False, capture=True, timeout_s=_ASK_TIMEOUT_S)
        said = (done.stderr + done.stdout).strip()
        good = done.returncode == 0 and not said  # a warning is a mistake, too
        failed += not good
        print(f"{environment}: {'valid' if good else 'NOT valid'} ({' + '.join(FILES[environment])})")
        if said:
            print(said)
    return 1 if failed else 0


def _build(environment: str) -> None:
    from ci.images.command import selective

    if code := selective(environment=environment):
        raise ToolError(f"the images could not be built (exit code {code}); invoke build.selective shows why")


def _what_went_wrong(found: Sequence[report.Container], code: int, timeout_s: int) -> str:
    """Which containers are not as they should be, and what they say; what waits for another one is named last."""
    unwell = [one for one in found if not one.well]
    waiting = [one for one in unwell if one.state == "created" and not report.start_error(one.name)]
    lines = [f"the stack is not up (docker compose: exit code {code}, waited up to {timeout_s} s)"]
    lines += [report.why(one) for one in unwell if one not in waiting]
    if waiting:
        lines.append(f"not started, for they wait for another: {', '.join(one.name for one in waiting)}")
    if not unwell:
        lines.append("every container that exists is well; the lines above say what Compose could not do")
    return "\n".join(lines)


def _check_services(stack: Stack, services: Sequence[str]) -> None:
    if not services:
        return
    listed = compose("config", "--services", stack=stack, capture=True, timeout_s=_ASK_TIMEOUT_S).stdout.split()
    if unknown := [service for service in services if service not in listed]:
        raise ToolError(f"there is no service {', '.join(unknown)}; there are {', '.join(sorted(listed))}")


def _size(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z0-9-]+)=(\d+)", text)
    if match is None:
        raise ToolError(f"{text!r} does not say how many of what; write it like rpa1=3")
    return match[1], int(match[2])


def _unreadable(stack: Stack) -> Iterator[Path]:
    """Mounted files that a umask has closed: the containers' users are none of this machine's."""
    for folder in ("postgres", "haproxy", "prometheus", "alertmanager", "receiver"):
        for path in sorted((stack.folder / folder).rglob("*")):
            needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
            if path.stat().st_mode & needed != needed:
                yield path


def _shown(path: Path, stack: Stack) -> str:
    return os.path.relpath(path, stack.root) if path.is_relative_to(stack.root) else str(path)
