"""The whole way to an engine, beside the one that runs: other folders, another socket, packages from the mirror."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
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
        self.places = Places(
            prefix=folder / "prefix",
            data=folder / "data",
            run=folder / "run",
            log=folder / "engine.log",
            socket=folder / "run/docker.sock",
            bin=folder / "bin",
            plugins=folder / "plugins",
        )
        names = [field.name for field in fields(Places) if field.name != "options"]
        self.options = [f"--{name}={getattr(self.places, name)}" for name in names]

    def engine(self, action: str, *options: str, apart: bool = True) -> subprocess.CompletedProcess[str]:
        """`apart`: with a network of its own, because the bridge and the firewall here are the other engine's."""
        command = [sys.executable, "-m", "ci.engine", action, *self.options, *options]
        if apart:
            command = ["unshare", "--net", *command]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)

    def docker(self, *arguments: str, file: Path | None = None) -> str:
        command = ["docker", *self.places.host(), *arguments]
        with (file or Path(os.devnull)).open("rb") as given:
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
    """A failing start says why; the next one fetches nothing and runs; the one after that does nothing at all."""
    # An option that dockerd does not know ends it before it does anything: what could be fetched is there by then.
    failed = machine.engine("start", "--option=--no-such-option", apart=False)
    assert failed.returncode == 1
    assert "docker.io, containerd" in failed.stdout
    assert "dockerd ended with" in failed.stderr
    assert "no-such-option" in failed.stderr
    assert running(machine.places) is None

    first = machine.engine("start")
    assert first.returncode == 0, first.stderr
    assert "unpacked" not in first.stdout
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
    left = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    assert left.stdout.strip() in ("", "Z")  # nobody may have fetched its exit code yet
    assert "nothing to stop" in machine.engine("stop").stdout
    gone = machine.engine("status")
    assert gone.returncode == 1
    assert "does not answer" in gone.stdout
