"""What wakes the development loop: real files in a real folder, container events of a fake docker command."""

from __future__ import annotations

import builtins
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ci.develop import command, events, orchestrator
from ci.develop.events import Event, Events
from ci.errors import ToolError

pytestmark = pytest.mark.requirement("R4.5", "R4.8")

# Names a container on its first run and ends; later runs go on until they are told to stop.
DOCKER = """#!/bin/sh
echo "$@" >> {folder}/calls
test -e {folder}/called && exec sleep 600
touch {folder}/called
echo 'no JSON'
echo '{{"status":"start","Actor":{{"ID":"abc"}}}}'
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a fake docker beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER.format(folder=folder))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(events, "_RETRY_S", 0.05)
    made = tmp_path / "workspace"
    for name in ("src", ".nox/lib", "src/.cache", "src/__pycache__"):
        (made / name).mkdir(parents=True)
    (made / "README.md").touch()
    return made


@pytest.fixture(params=[False, True], ids=["events", "polling"])
def watched(root: Path, request: pytest.FixtureRequest) -> Iterator[Events]:
    """Both ways to look; begins when the watch is seen to work."""
    with Events(root, "project", force_polling=request.param) as found:
        for number in range(400):  # a watch that is being set up misses what is saved meanwhile
            (root / "src/begin").write_text(str(number))
            if any(event.paths for event in found.next(timeout_s=0.1)):
                break
        while any(event.paths for event in found.next(timeout_s=1.0)):
            pass
        yield found


def collect(found: Events, enough: Callable[[set[str]], bool]) -> tuple[set[str], list[list[Event]]]:
    """(names of touched files, batches) until `enough`; fails after half a minute of silence."""
    names, batches = set[str](), list[list[Event]]()
    while not enough(names):
        batch = found.next(timeout_s=30)
        assert batch, f"nothing came any more; so far {sorted(names)}"
        batches.append(batch)
        names |= {path.name for event in batch for path in event.paths}
    return names, batches


def test_saved_files_come_and_caches_do_not(root: Path, watched: Events) -> None:
    """Nor what an editor puts beside the file; a file at the top comes as well."""
    for name in ("src/.cache/x.py", "src/__pycache__/x.pyc", "src/x.py~", "src/.x.py.swp", ".nox/lib/x.py"):
        (root / name).write_text("x")
    (root / "src/x.py").write_text("x")
    (root / "README.md").write_text("more")
    names, _ = collect(watched, lambda names: {"x.py", "README.md"} <= names)
    assert names - {"src"} == {"x.py", "README.md"}  # who looks in turns sees the folder change, too


def test_a_new_folder_at_the_top_is_watched_too(root: Path, watched: Events) -> None:
    """With the files that were in it when it came."""
    (root / "more").mkdir()
    (root / "more/first.py").write_text("x")
    collect(watched, lambda names: "first.py" in names)
    for number in range(100):  # until the new watch is set up
        (root / "more/second.py").write_text(str(number))
        if any(path.name == "second.py" for event in watched.next(timeout_s=0.5) for path in event.paths):
            return
    pytest.fail("the new folder is not watched")


def test_what_git_does_is_one_batch(root: Path, watched: Events) -> None:
    """It may take its time: while it holds its lock, nothing is handed out."""
    (root / ".git").mkdir()
    lock = root / ".git/index.lock"
    lock.touch()
    done = threading.Event()

    def checkout() -> None:
        for number in range(4):
            (root / f"src/{number}.py").write_text("x")
            done.wait(0.2)
        lock.unlink()

    thread = threading.Thread(target=checkout)
    thread.start()
    names, batches = collect(watched, lambda names: {f"{number}.py" for number in range(4)} <= names)
    thread.join()
    assert len([batch for batch in batches if any(event.paths for event in batch)]) == 1, names


def test_containers_that_start_come_and_the_engine_may_go_and_come_back(root: Path) -> None:
    """`docker events` ended: it is asked again, from where it ended."""
    with Events(root, "project") as found:
        batch: list[Event] = []
        while not any(event.container for event in batch):
            batch = found.next(timeout_s=30)
            assert batch
        assert [event.container for event in batch if event.container] == ["abc"]
        calls = root.parent / "bin/calls"
        while calls.read_text().count("\n") < 2:
            found.next(timeout_s=0.05)
    assert "--filter label=com.docker.compose.project=project" in calls.read_text()
    assert not any(thread.name.startswith("_watch") for thread in threading.enumerate())


def test_without_docker_and_without_file_events_it_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's watches can run out: then files are looked at in turns."""
    (root.parent / "bin/docker").unlink()
    monkeypatch.setenv("PATH", str(root.parent / "bin"))
    modes = list[bool]()

    class Watchfiles:
        def watch(self, *_: Any, force_polling: bool, stop_event: threading.Event, **__: Any) -> Any:
            modes.append(force_polling)
            if not force_polling:
                raise OSError("OS file watch limit reached")
            yield set()
            stop_event.wait(30)

    monkeypatch.setattr(events, "require_watchfiles", Watchfiles)
    said = set[str]()
    with Events(root, "project") as found:
        while len(said) < 2:
            batch = found.next(timeout_s=30)
            assert batch
            said |= {event.problem for event in batch if event.problem}
    assert any("file watch limit reached" in line and "looking in turns" in line for line in said)
    assert any("no container events" in line for line in said)
    assert modes[:2] == [False, True]


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those who watch need it."""
    real = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == "watchfiles":
            raise ImportError(name)
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolError, match="python -m pip install watchfiles"):
        events.require_watchfiles()


def test_the_commands_pass_on_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `invoke dev.watch` and `invoke dev.shell` call them."""
    asked = list[Any]()
    monkeypatch.setattr(
        orchestrator.DevelopmentOrchestrator,
        "setup_hot_reloading",
        lambda self, **options: asked.append((self._services, options)),
    )
    assert command.watch(services=["rpa1"], force_polling=True) == 0
    assert asked == [(frozenset({"rpa1"}), {"force_polling": True})]
    with pytest.raises(ToolError, match=r"dev\.debug is for development"):
        command.debug("rpa1", environment="production")


@pytest.mark.requirement("R4.6")
def test_the_package_is_light(root: Path) -> None:
    """`invoke --list` imports none of what only a watch needs."""
    code = "import sys, ci.develop.command; print([m for m in ('watchfiles', 'rich', 'docker') if m in sys.modules])"
    import sys

    from ci.workspace import ROOT

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
