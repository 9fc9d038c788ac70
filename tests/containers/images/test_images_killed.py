"""Builds that are killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest
from ci import docker
from ci.images import contexts
from ci.images.model import Action
from ci.images.verify import verify
from ci.workspace import ROOT

from tests.containers.images.workbench import CORE_FILE, Workspace

_FILES = ("packages/flows/src/rpa_flows/rpa1/flow.py", "packages/flows/src/rpa_flows/rpa2/flow.py", CORE_FILE)
_PROGRAM = (
    "import sys; from pathlib import Path; from ci.images import command; "
    "sys.exit(command.selective('production', root=Path(sys.argv[1])))"
)
_KILLS = 10
_LONGEST_S = 5.0


def _wrong(workspace: Workspace) -> list[str]:
    """What is called current and is not."""
    return [
        f"{one.contents.image.name}: {line}"
        for one in workspace.plan().decisions
        if one.action is Action.NOTHING and one.existing is not None
        for line in verify(one.contents, one.existing)
    ]


def _killed(workspace: Workspace, after_s: float, *, all_of_it: bool) -> bool:
    """Start a build and kill it, or only its own process and not the builder's; whether it was still running."""
    build = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(workspace.root)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        build.wait(after_s)
    except subprocess.TimeoutExpired:
        if all_of_it:
            os.killpg(build.pid, signal.SIGKILL)
        else:
            build.kill()
        build.wait()
        return True
    return False


@pytest.mark.slow
@pytest.mark.requirement("R4.8")
def test_a_build_killed_at_any_moment_leaves_no_wrong_image_that_is_called_current(workspace: Workspace) -> None:
    """Ten random moments, with the builder and without; each time the next edit has the same size."""
    workspace.build()
    chance = random.Random(4711)
    landed = 0
    for number in range(_KILLS):
        path = _FILES[number % len(_FILES)]
        _stamp(workspace, path, 2 * number)
        landed += _killed(workspace, chance.uniform(0.1, _LONGEST_S), all_of_it=bool(number % 2))
        assert _wrong(workspace) == []
        _stamp(workspace, path, 2 * number + 1)  # the builder of the killed one may be at work still
        workspace.build()
        assert _wrong(workspace) == []
        assert {one.action for one in workspace.plan().decisions} == {Action.NOTHING}
    assert landed >= _KILLS // 2, f"only {landed} kills met a build under way"
    keys = {one.contents.key for one in workspace.plan().decisions}
    trusted = [one for one in docker.images() if one.labels.get("rpa.key") in keys and one.tags]
    assert len(trusted) == len(keys)


def _stamp(workspace: Workspace, path: str, number: int) -> None:
    """Change a file, its size and its time staying what they are."""
    file = workspace.root / path
    before = file.stat()
    text = file.read_text(encoding="utf-8").split("\n# stamp ")[0].rstrip("\n")
    file.write_text(f"{text}\n# stamp {number:04}\n", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.requirement("R4.8")
def test_a_second_build_waits_for_the_first_ones_builder(workspace: Workspace) -> None:
    """The lock is the builder's too: it outlives the process that took it."""
    place = contexts.folder(workspace.root, "production", workspace.prefix)
    with contexts.locked(place) as descriptor:
        holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    waited = list[str]()

    def release() -> None:
        waited.append("waiting")
        holder.communicate(b"\n")

    with contexts.locked(place, waiting=release):
        assert waited == ["waiting"]
    assert holder.returncode == 0
