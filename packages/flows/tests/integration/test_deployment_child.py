"""The worker process of a deployment's run: heard to its end, asked to drain, ended for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rpa_flows.deployments import child
from rpa_testkit.waits import until

pytestmark = pytest.mark.requirement("R5.5")

_WORKER = """
import os, signal, sys
def drain(*_):
    print("draining", flush=True)
    print("drained", flush=True)
    os._exit(0)
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif sys.argv[1] == "drains":
    signal.signal(signal.SIGTERM, drain)
print("pid", os.getpid(), flush=True)
if sys.argv[1].isdigit():
    print("why", file=sys.stderr, flush=True)
    sys.exit(int(sys.argv[1]))
while True:
    signal.pause()
"""
_RUN = """
import os, sys
from rpa_flows.deployments import child
child.run([sys.executable, "-c", sys.argv[1], "drains"], environ=os.environ,
          take=lambda line: print(line, end="", flush=True), grace_s=30)
"""


class _Interrupted(BaseException):
    """As Prefect's TerminationSignal."""


def _run(how: str, take: Callable[[str], object], *, most_s: float | None = None, grace_s: float = 30.0) -> int:
    command = [sys.executable, "-c", _WORKER, how]
    return child.run(command, environ=os.environ, take=take, most_s=most_s, grace_s=grace_s)


def _gone(line: str) -> bool:
    try:
        os.kill(int(line.split()[1]), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("code", [0, 69, 78])
def test_every_line_and_the_exit_code_arrive(code: int) -> None:
    """Both streams, in one."""
    lines: list[str] = []
    assert _run(str(code), lines.append) == code
    assert lines[1:] == ["why\n"]


def test_the_exit_code_arrives_where_ends_of_children_are_ignored() -> None:
    """A parent that ignores SIGCHLD passes that on to the run: its worker's failure must not read as success."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert _run("3", lambda _: None) == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_it_drains_when_its_time_is_over() -> None:
    """SIGTERM after `most_s`, and its last words are heard."""
    lines: list[str] = []
    assert _run("drains", lines.append, most_s=1.0) == 0
    assert lines[1:] == ["draining\n", "drained\n"]


def test_a_cancelled_run_waits_for_the_drain() -> None:
    """What is raised in the run reaches the worker as SIGTERM, and goes on when the worker has ended."""
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        _run("drains", take)
    assert lines[1:] == ["draining\n", "drained\n"]
    assert _gone(lines[0])


def test_one_that_does_not_drain_is_killed() -> None:
    """After the grace, for certain."""
    lines: list[str] = []
    assert _run("stubborn", lines.append, most_s=0.5, grace_s=0.5) == -signal.SIGKILL
    assert _gone(lines[0])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the death of a parent is Linux's own")
def test_a_killed_run_takes_its_worker_along(tmp_path: Path) -> None:
    """SIGKILL of the process of the run: the kernel tells the worker to drain."""
    log = tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen([sys.executable, "-c", _RUN, _WORKER], stdout=output)
    try:
        until(lambda: "pid" in log.read_text(), 30, "the worker to run")
    finally:
        run.kill()
        run.wait()
    until(lambda: _gone(log.read_text().splitlines()[0]), 30, "the worker to end")


def test_the_worker_gets_the_environment_without_prefects_own_part() -> None:
    """The run is reported by Prefect's engine, not twice; the probes' port is free unless one is asked for."""
    given = {
        "CONTAINER_PREFECT_API_URL": "http://prefect:4200/api",
        "CONTAINER_PREFECT_API_KEY": "k",
        "CONTAINER_LOG_FORMAT": "console",
        "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://db/x",
        "PATH": "/bin",
    }
    made = child.environment(given)
    assert not [name for name in made if "PREFECT" in name]
    assert made["CONTAINER_LOG_FORMAT"] == "json"
    assert made["CONTAINER_HEALTH_PORT"] == "0"
    assert made["CONTAINER_DATABASE_RPA_DB_URL"] == "postgresql://db/x"
    assert child.environment({"CONTAINER_HEALTH_PORT": "8080"})["CONTAINER_HEALTH_PORT"] == "8080"
