"""The private apt, and what is done with what it brings; with programs that only say what they were asked."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ci.engine import packages, sources, start
from ci.engine.commands import run
from ci.engine.places import Places
from ci.engine.sources import Source
from ci.errors import ToolError

SOURCES = [Source(uris=("http://mirror.example/debian",), suites=("bookworm",), components=("main",))]


class Machine:
    """Stands for the machine's programs: records every command, and leaves the files that they would leave."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.failing: set[str] = set()
        self.lists = ""

    def __call__(self, *command: str, check: bool = True, cwd: Path | None = None, **_: Any) -> Any:
        self.commands.append(command)
        words = [word for word in command[1:] if not word.startswith("-") and "=" not in word]
        if words and words[0] in self.failing:
            if check:
                raise ToolError(f"{command[0]} {words[0]} failed with 100")
            return subprocess.CompletedProcess(command, 100, "", "")
        if words[:1] == ["update"]:
            places = [word.partition("=")[2] for word in command if word.startswith("Dir::Etc::sourcelist=")]
            self.lists = "".join(Path(place).read_text() for place in places)
        if words[:1] == ["download"]:
            assert cwd is not None
            for name in words[1:]:
                (cwd / f"{name}_1.0_amd64.deb").touch()
        if command[:2] == ("dpkg", "-x"):
            program = Path(command[3]) / "usr/bin" / Path(command[2]).name.partition("_")[0]
            program.parent.mkdir(parents=True)
            program.touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    def asked(self, word: str) -> list[tuple[str, ...]]:
        return [command for command in self.commands if word in command]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    monkeypatch.setattr(packages, "run", fake)
    monkeypatch.setattr(sources, "read", lambda: SOURCES)
    return fake


@pytest.mark.requirement("R5.7")
def test_packages_of_the_next_release_are_downloaded_apart_from_the_system(machine: Machine, tmp_path: Path) -> None:
    """The apt that downloads has its own lists, sources and status, and never installs."""
    places = Places(prefix=tmp_path)
    assert packages.fetch(["docker.io", "containerd"], places, codename="bookworm") == ["docker.io", "containerd"]
    assert "Suites: trixie\n" in machine.lists
    for command in machine.asked("update") + machine.asked("download"):
        options = dict(word.split("=", 1) for word in command if word.startswith("Dir::"))
        assert options["Dir::Etc::sourceparts"] == "/dev/null"
        assert not any(options[name].startswith(("/var", "/etc")) for name in ("Dir::State", "Dir::Cache"))
        assert options["Dir::State::status"].startswith(str(Path(options["Dir::State"]).parent))
    assert not machine.asked("install")
    assert places.program("containerd") == tmp_path / "packages/containerd/usr/bin/containerd"


@pytest.mark.requirement("R5.7")
def test_what_was_unpacked_is_not_fetched_again(machine: Machine, tmp_path: Path) -> None:
    """A second time only what is missing; a third time no command at all."""
    places = Places(prefix=tmp_path)
    packages.fetch(["containerd"], places, codename="bookworm")
    assert packages.fetch(["containerd", "docker.io"], places, codename="bookworm") == ["docker.io"]
    assert machine.asked("download")[-1][-1] == "docker.io"
    machine.commands.clear()
    assert packages.fetch(["containerd", "docker.io"], places, codename="bookworm") == []
    assert machine.commands == []


@pytest.mark.requirement("R5.7")
def test_an_interrupted_unpacking_leaves_no_half_package(machine: Machine, tmp_path: Path) -> None:
    """The folder appears when it is whole: the next run does it again."""
    places = Places(prefix=tmp_path)
    half = tmp_path / "packages/.containerd/usr/bin"
    half.mkdir(parents=True)
    (half / "half").touch()
    assert places.program("half") is None
    packages.fetch(["containerd"], places, codename="bookworm")
    assert not (tmp_path / "packages/containerd/usr/bin/half").exists()


@pytest.mark.requirement("R5.7")
def test_lists_are_only_updated_where_an_install_fails(machine: Machine) -> None:
    """The machine's own lists usually do; where even fresh ones do not help, the failure is told."""
    packages.install(["tini"])
    assert [command[1] for command in machine.commands] == ["install"]
    machine.commands.clear()
    machine.failing.add("install")
    with pytest.raises(ToolError, match="install failed"):
        packages.install(["tini"])
    assert [command[1] for command in machine.commands] == ["install", "update", "install"]


def test_a_failing_program_is_told_with_its_last_words(tmp_path: Path) -> None:
    """The end of its output is in the message; a missing program and a slow one are named."""
    with pytest.raises(ToolError, match=r"(?s)sh -c .* failed with 3:\n.*ten\Z") as caught:
        run("sh", "-c", "for n in one two ten; do echo $n >&2; done; exit 3")
    assert "two" in str(caught.value).splitlines()
    with pytest.raises(ToolError, match="no-such-program is missing"):
        run("no-such-program")
    with pytest.raises(ToolError, match=r"did not end within 0\.1 s"):
        run("sleep", "30", timeout_s=0.1)


@pytest.mark.requirement("R5.7")
def test_only_what_was_started_here_is_stopped(tmp_path: Path) -> None:
    """A record of a process that ended, or whose number another process has now, ends nothing."""
    places = Places(run=tmp_path)
    assert start.stop(places) is False
    other = subprocess.Popen(["sleep", "60"])
    try:
        places.started.write_text(f'{{"pid": {other.pid}, "began": "1"}}')
        assert start.running(places) is None
        assert start.stop(places) is False
        assert other.poll() is None
        places.started.write_text("half a rec")
        assert start.stop(places) is False
    finally:
        other.kill()
        other.wait()
