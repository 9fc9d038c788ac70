"""The whole way to an engine, beside the one that runs: other folders, another socket, packages from the real mirror."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci.engine.machine import OS_RELEASE, read_os_release
from ci.engine.places import Places
from ci.engine.start import running
from ci.workspace import ROOT

REFERENCE = "debian:trixie-slim"


class Machine:
    """The command, for an engine of this test's own."""

    def __init__(self, folder: Path) -> None:
        names = ("prefix", "data", "run", "bin", "plugins")
        self.places = Places(
            **{name: folder / name for name in names}, log=folder / "engine.log", socket=folder / "run/docker.sock"
        )
        paths = {name: getattr(self.places, name) for name in (*names, "log", "socket")}
        self.options = [f"--{name}={path}" for name, path in paths.items()]
        # No bridge and no firewall rules: those are the other engine's.
        self.options += ["--option=--bridge=none", "--option=--iptables=false"]

    def engine(self, action: str, *options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ci.engine", action, *self.options, *options]
        environment = {**os.environ, "PATH": path or os.environ["PATH"]}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    def docker(self, *arguments: str, file: Path | None = None) -> str:
        command = ["docker", *self.places.host(), *arguments]
        with file.open("rb") if file else open(os.devnull, "rb") as given:  # noqa: PTH123
            done = subprocess.run(command, stdin=given, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def machine(engine: str, tmp_path: Path) -> Iterator[Machine]:
    system, release, _ = read_os_release(OS_RELEASE)
    if system != "debian" or release != 12 or os.geteuid() != 0:
        pytest.skip("unpacking an engine beside the system is for root on Debian 12")
    one = Machine(tmp_path)
    yield one
    one.engine("stop")


@pytest.mark.slow
@pytest.mark.requirement("R5.7")
def test_an_engine_comes_to_a_machine_without_one_once(machine: Machine, tmp_path: Path) -> None:
    """Fetched, unpacked, started: it runs a container. Again: nothing is done. Stopped: nothing is left running."""
    first = machine.engine("start")
    assert first.returncode == 0, first.stderr
    assert "docker.io, containerd" in first.stdout
    assert "starting dockerd" in first.stdout
    assert "answers, with compose and buildx: ready" in first.stdout
    pid = running(machine.places)
    assert pid is not None

    archive = tmp_path / "image.tar"
    subprocess.run(["docker", "save", "--output", str(archive), REFERENCE], check=True, timeout=300)
    machine.docker("load", file=archive)
    ran = machine.docker("run", "--rm", "--init", "--network=none", REFERENCE, "sh", "-c", "cat /proc/1/comm; echo ran")
    assert ran.splitlines() == ["docker-init", "ran"]

    second = machine.engine("start")
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines() == [second.stdout.strip()]
    assert "nothing to do" in second.stdout
    assert running(machine.places) == pid

    status = machine.engine("status")
    assert status.returncode == 0
    assert f"yes, process {pid}" in status.stdout

    assert machine.engine("stop").stdout.strip() == "stopped"
    assert not Path(f"/proc/{pid}").exists()
    assert "nothing to stop" in machine.engine("stop").stdout
    gone = machine.engine("status")
    assert gone.returncode == 1
    assert "does not answer" in gone.stdout

    # What was unpacked is used again; an engine that cannot start says why, and leaves no record.
    third = machine.engine("start", "--option=--storage-driver=no-such-driver")
    assert third.returncode == 1
    assert "unpacked" not in third.stdout
    assert "dockerd ended with 1" in third.stderr
    assert "no-such-driver" in third.stderr
    assert running(machine.places) is None
