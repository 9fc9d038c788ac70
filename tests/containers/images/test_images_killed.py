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

_PROGRAM = (
    "import sys; from pathlib import Path; from ci.images import command; "
    "sys.exit(command.selective('production', ('rpa-flow2',), root=Path(sys.argv[1])))"
)
_IMAGES = ("rpa-flow2",)  # and its parent
_KILLS = 10


def _wrong(workspace: Workspace) -> list[str]:
    """What is called current and is not."""
    return [
        f"{one.contents.image.name}: {line}"
        for one in workspace.plan(images=_IMAGES).decisions
        if one.action is Action.NOTHING and one.existing is not None
        for line in verify(one.contents, one.existing)
    ]


def _start(workspace: Workspace) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(workspace.root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _lines(workspace: Workspace) -> int:
    """How many lines a build of both images writes."""
    with _start(workspace) as build:
        shown = build.communicate(timeout=600)[0]
    assert build.returncode == 0, shown
    return shown.count("\n")


def _killed(workspace: Workspace, after_lines: int, *, all_of_it: bool) -> bool:
    """Start a build and kill it, or only its own process and not the builder's; whether it was still running."""
    with _start(workspace) as build:
        assert build.stdout is not None
        for _ in range(after_lines):
            build.stdout.readline()
        if all_of_it:
            os.killpg(build.pid, signal.SIGKILL)
        else:
            build.kill()
    return build.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.requirement("R4.8")
def test_a_build_killed_at_any_moment_leaves_no_wrong_image_that_is_called_current(workspace: Workspace) -> None:
    """Ten random moments, with the builder and without; each time the next edit has the same size."""
    workspace.build(images=_IMAGES)
    _stamp(workspace, 9998)
    lines = _lines(workspace)
    chance = random.Random(4711)
    landed = 0
    for number in range(_KILLS):
        _stamp(workspace, 2 * number)
        landed += _killed(workspace, chance.randrange(lines), all_of_it=bool(number % 2))
        assert _wrong(workspace) == []
        _stamp(workspace, 2 * number + 1)
        if number % 2 == 0:  # the builder of the killed one is at work still
            workspace.build(images=_IMAGES)
            assert _wrong(workspace) == []
            assert {one.action for one in workspace.plan(images=_IMAGES).decisions} == {Action.NOTHING}
    assert landed >= _KILLS // 2, f"only {landed} kills met a build under way"
    workspace.build(images=_IMAGES)
    assert _wrong(workspace) == []
    keys = {one.contents.key for one in workspace.plan(images=_IMAGES).decisions}
    trusted = [one for one in docker.images() if one.labels.get("rpa.key") in keys and one.tags]
    assert len(trusted) == len(keys)


def _stamp(workspace: Workspace, number: int) -> None:
    """Change a file of the parent, its size and its time staying what they are."""
    file = workspace.root / CORE_FILE
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
