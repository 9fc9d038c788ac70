"""The warden on a Docker Engine: containers and networks of a killed tester are gone, those of others stay."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.mark import LABEL
from rpa_testkit.warden.processes import started

pytestmark = [pytest.mark.slow, pytest.mark.requirement("R3.3", "R9.6")]
IMAGE = "python:3.13-slim-trixie"
_GONE_S = 15.0  # the promise
_TESTER = """
import signal, subprocess, sys
from pathlib import Path
from rpa_testkit.warden.client import Warden
warden = Warden.start(Path(sys.argv[1]))
warden.adopt(sys.argv[2])
print(f"warden={warden.pid}.", flush=True)
for _ in iter(int, 1):
    subprocess.Popen(sys.argv[3:])
    signal.sigtimedwait([], 0.3)
"""


def docker(*arguments: str) -> str:
    """What the docker command answers."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def run(run_id: str) -> list[str]:
    """The arguments that start a container of a run."""
    command = ["sleep", "600"]
    return ["run", "--detach", "--stop-timeout", "60", "--label", f"{LABEL}={run_id}", IMAGE, *command]


def left(run_id: str) -> list[str]:
    """Everything that carries the run's label."""
    mine = ("--quiet", "--filter", f"label={LABEL}={run_id}")
    return [
        *docker("ps", "--all", *mine).split(),
        *docker("network", "ls", *mine).split(),
        *docker("volume", "ls", *mine).split(),
    ]


@pytest.fixture
def run_id(engine: str) -> Iterator[str]:
    """Of a run whose containers are removed at the end, whatever its name was extended by."""
    made = f"test-{uuid.uuid4().hex[:12]}"
    yield made
    for each in (made, f"{made}0"):
        subprocess.run(
            ["docker", "rm", "--force", *docker("ps", "-aq", "--filter", f"label={LABEL}={each}").split()], check=False
        )


def test_finishing_a_run_removes_what_it_left_and_nothing_else(run_id: str, tmp_path: Path) -> None:
    """Running, paused, and never started; its network and volume too; all of it is told."""
    other = f"{run_id}0"
    label = f"{LABEL}={run_id}"
    docker("network", "create", "--label", label, f"{run_id}-network")
    docker("volume", "create", "--label", label, f"{run_id}-volume")
    running = docker(*run(run_id))
    docker("network", "connect", f"{run_id}-network", running)
    docker("pause", docker(*run(run_id)))
    docker("create", "--label", label, "--volume", f"{run_id}-volume:/data", IMAGE)
    kept = docker(*run(other))
    with Warden.start(tmp_path) as warden:
        warden.adopt(run_id)
        found = warden.finish(run_id)
        assert left(run_id) == []
    assert sorted(each.split()[0] for each in found) == ["container"] * 3 + ["network", "volume"]
    assert any(running[:12] in each for each in found)
    assert docker("inspect", "--format", "{{.State.Status}}", kept) == "running"


def test_containers_that_a_killed_tester_was_just_starting_are_removed(
    run_id: str, tmp_path: Path, worker_process: WorkerProcesses
) -> None:
    """One after the other is on its way when the tester dies."""
    command = ["docker", *run(run_id)]
    tester = worker_process("", argv=[sys.executable, "-c", _TESTER, str(tmp_path), run_id, *command])
    tester.wait_for_log("warden=", 30.0)
    warden = int(tester.log_text().split("warden=")[1].split(".")[0])
    until(lambda: len(left(run_id)) >= 2, 60.0, "two containers", tester.log_text)
    tester.kill()
    until(lambda: started(warden) is None, _GONE_S, "the warden to end", (tmp_path / "warden.log").read_text)
    assert left(run_id) == []
