"""What goes into an image, its key, and what is remembered in between."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import declare, manifest, remembered
from ci.images.contents import gather
from ci.images.model import Contents
from ci.images.remembered import Remembered
from ci.waits import until
from ci.workspace import ROOT

BASE_IDS = {"python:3.13": "sha256:aa"}
_DECLARATION = """
python = "3.13"
platform = "linux/amd64"
environments = ["production"]

[images.base]
title = "the base"
dockerfile = "docker/Dockerfile"
bases = { python = "python:3.13" }
locks = { "locks/run.txt" = "locks/run.txt" }
trees = [{ source = "lib", to = "lib", at = "/app/lib", files = ["**"], exclude = ["**/*.md"] }]

[images.app]
title = "the application"
dockerfile = "docker/Dockerfile"
parents = ["base"]
flows = ["one"]
trees = [{ source = "packages/flows/src", to = "flow", at = "/app/flow", entry = ["pkg.one"], files = ["pkg/*.sql"] }]
"""
_FILES = {
    "docker/images.toml": _DECLARATION,
    "docker/Dockerfile": "FROM python\n",
    "locks/run.txt": f"click==8.5.1 --hash=sha256:{'a' * 64}\nrich==1 --hash=sha256:{'b' * 64}\n",
    "lib/a.py": "A = 1\n",
    "lib/deep/b.py": "B = 1\n",
    "lib/README.md": "# lib\n",
    "packages/flows/pyproject.toml": """[project]
name = "rpa-flows"
version = "0.1.0"
description = "flows"
entry-points."rpa.flows" = { one = "pkg.one:FLOW", two = "pkg.two:FLOW" }
""",
    "packages/flows/src/pkg/__init__.py": "",
    "packages/flows/src/pkg/one.py": "FLOW = 1\n",
    "packages/flows/src/pkg/two.py": "FLOW = 2\n",
    "packages/flows/src/pkg/x.sql": "-- x\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small workspace."""
    return write(tmp_path / "tree")


def write(root: Path) -> Path:
    """The small workspace at `root`."""
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def look(root: Path, base_ids: dict[str, str] | None = None) -> dict[str, Contents]:
    """Every image's contents."""
    return gather(declare.load(root, environment="production"), root=root, base_ids=base_ids or BASE_IDS)


def keys(root: Path) -> dict[str, str]:
    """Every image's key."""
    return {name: one.key for name, one in look(root).items()}


@pytest.mark.requirement("R4.2")
def test_a_context_holds_what_was_declared_and_nothing_else(tree: Path) -> None:
    """Files by pattern, modules by import, the flow's registration, the lock's slice, the Dockerfile."""
    found = look(tree)
    assert [entry.path for entry in found["base"].entries] == [
        "Dockerfile",
        "lib/a.py",
        "lib/deep/b.py",
        "locks/run.txt",
    ]
    app = {entry.path: entry for entry in found["app"].entries}
    assert sorted(app) == [
        "Dockerfile",
        "flow/pkg/__init__.py",
        "flow/pkg/one.py",
        "flow/pkg/x.sql",
        "flow/rpa_flows-0.1.0.dist-info/METADATA",
        "flow/rpa_flows-0.1.0.dist-info/entry_points.txt",
    ]
    assert app["flow/rpa_flows-0.1.0.dist-info/entry_points.txt"].content == b"[rpa.flows]\none = pkg.one:FLOW\n"
    assert app["flow/pkg/one.py"].at == "/app/flow/pkg/one.py"
    assert app["flow/pkg/one.py"].source == tree / "packages/flows/src/pkg/one.py"
    assert found["app"].manifest["parent:base"] == found["base"].key
    assert found["base"].manifest["base:python"] == "python:3.13 sha256:aa"
    assert found["app"].key == manifest.key(json.loads(manifest.canonical(found["app"].manifest)))


@pytest.mark.requirement("R4.3")
def test_a_changed_package_changes_one_line_of_the_manifest(tree: Path) -> None:
    """So that the reason can name the package."""
    before = look(tree)["base"].manifest
    (tree / "locks/run.txt").write_text(_FILES["locks/run.txt"].replace("8.5.1", "8.5.2"))
    changes = manifest.differences(before, look(tree)["base"].manifest)
    assert [change.input for change in changes] == ["lock:locks/run.txt:click"]


@pytest.mark.requirement("R4.3")
def test_the_key_knows_neither_place_nor_time_nor_umask(tree: Path, tmp_path: Path) -> None:
    """Two clones on two machines have the same images."""
    other = tmp_path / "another/place"
    before = os.umask(0o077)
    try:
        write(other)
    finally:
        os.umask(before)
    for path in other.rglob("*.py"):
        os.utime(path, (0, 0))
    assert keys(other) == keys(tree)


@pytest.mark.requirement("R4.3")
def test_what_tools_and_editors_leave_is_in_no_image(tree: Path) -> None:
    """Whatever the pattern says."""
    before = keys(tree)
    for name in ("__pycache__/a.pyc", "a.pyc", "a.py~", ".a.py.swp", ".#a.py", "#a.py#", "x.egg-info/PKG"):
        (tree / "lib" / name).parent.mkdir(exist_ok=True)
        (tree / "lib" / name).write_text("x")
    assert keys(tree) == before


@pytest.mark.requirement("R4.1")
@pytest.mark.parametrize("name", ["a b", "a\nb", "ä", "数", "'\"$x", "-x", "[x]", "*"])
def test_any_name_can_go_in(tree: Path, name: str) -> None:
    """Spaces, line breaks, other scripts."""
    (tree / "lib" / name).write_text("x")
    assert f"lib/{name}" in {entry.path for entry in look(tree)["base"].entries}


@pytest.mark.requirement("R4.1")
def test_what_no_image_can_hold_is_refused(tree: Path) -> None:
    """Pipes, sockets, links out of the folder, names that are no text."""
    fifo = tree / "lib/fifo"
    os.mkfifo(fifo)
    with pytest.raises(ToolError, match="lib/fifo: is a socket, pipe or device"):
        look(tree)
    fifo.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(fifo))
        with pytest.raises(ToolError, match="lib/fifo: is a socket, pipe or device"):
            look(tree)
    fifo.unlink()
    for target in ("/etc/hostname", "../docker/Dockerfile"):
        fifo.symlink_to(target)
        with pytest.raises(ToolError, match="lib/fifo: links"):
            look(tree)
        fifo.unlink()
    (tree / "docker/Dockerfile").rename(tree / "docker/Real")
    (tree / "docker/Dockerfile").symlink_to("Real")
    with pytest.raises(ToolError, match="docker/Dockerfile: is a symbolic link where a file is needed"):
        look(tree)
    (tree / "docker/Real").rename(tree / "docker/Dockerfile")
    (tree / "lib" / os.fsdecode(b"\xff")).write_text("x")
    with pytest.raises(ToolError, match="its name is not UTF-8"):
        look(tree)


@pytest.mark.requirement("R4.1")
@pytest.mark.parametrize(("name", "place"), [("a.py", "lib"), ("deep", "lib"), ("run.txt", "locks"), ("x", "lib/a.py")])
def test_two_trees_do_not_write_one_place(tree: Path, name: str, place: str) -> None:
    """Neither the same file, nor a file where the other has a folder."""
    (tree / "more").mkdir()
    (tree / "more" / name).write_text("x")
    more = f'trees = [{{ source = "more", to = "{place}", files = ["{name}"] }}, '
    text = (tree / "docker/images.toml").read_text()
    (tree / "docker/images.toml").write_text(text.replace("trees = [", more, 1))
    with pytest.raises(ToolError, match=r"images\.base: .* both write .* in the build context"):
        look(tree)


@pytest.mark.requirement("R4.2")
def test_a_flow_that_is_registered_must_be_in(tree: Path) -> None:
    """Otherwise the image would start, and not find it."""
    swapped = (tree / "docker/images.toml").read_text().replace('flows = ["one"]', 'flows = ["one", "two"]')
    (tree / "docker/images.toml").write_text(swapped)
    with pytest.raises(ToolError, match=r'flow two is pkg\.two, which does not go in; entry = \["pkg\.two"\]'):
        look(tree)


@pytest.mark.requirement("R4.1")
def test_a_base_that_is_not_here_is_named_with_what_makes_it(tree: Path) -> None:
    """From a registry, or without one."""
    with pytest.raises(ToolError, match=r"docker pull python:3\.13, .*invoke build\.bootstrap"):
        look(tree, {"x": "y"})


@pytest.mark.requirement("R4.3")
def test_a_pattern_that_means_nothing_is_noted(tree: Path) -> None:
    """It may be meant for later, or be misspelt."""
    (tree / "packages/flows/src/pkg/x.sql").unlink()
    assert look(tree)["app"].notes == ("packages/flows/src/pkg/*.sql matches no file",)


@pytest.fixture
def settled(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small workspace, remembered; the file system's clock is that of ticks."""
    monkeypatch.setattr(remembered, "_RACY_NS", 0)
    newest = max(path.lstat().st_ctime_ns for path in tree.rglob("*"))
    until(lambda: _stamp(tree) > newest, timeout_s=20, what="a tick of the file system's clock")
    keys(tree)
    return tree


def _stamp(folder: Path) -> int:
    (folder / "stamp").write_text("")
    return (folder / "stamp").stat().st_mtime_ns


@pytest.mark.requirement("R4.3")
def test_an_unchanged_file_is_not_read_again(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what makes the decision quick."""

    def refuse(*_: object) -> None:
        raise AssertionError("read")

    before = keys(settled)
    monkeypatch.setattr(Remembered, "_read", refuse)
    assert keys(settled) == before


@pytest.mark.requirement("R4.3")
def test_an_edit_that_hides_behind_size_and_mtime_is_seen(settled: Path) -> None:
    """The kernel's ctime tells."""
    path, before = settled / "lib/a.py", keys(settled)
    status = path.stat()
    path.write_text("A = 2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert keys(settled) != before


@pytest.mark.requirement("R4.3")
def test_a_file_of_this_moment_is_not_remembered(tree: Path) -> None:
    """It may change again without showing it, within one tick of a coarse clock."""
    look(tree)
    assert json.loads((tree / remembered.PLACE).read_text().partition("\n")[2])["files"] == {}


@pytest.mark.requirement("R4.3")
def test_edits_in_quick_succession_are_all_seen(tree: Path) -> None:
    """Hundreds within ticks of the clock, each with the size and mtime of the last."""
    path, status = tree / "lib/a.py", (tree / "lib/a.py").stat()
    seen = set[str]()
    for number in range(300):
        path.write_text(f"A = {number:03}\n")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        seen.add(Remembered(tree).file("lib/a.py")[0])
    assert len(seen) == 300


@pytest.mark.requirement("R4.3")
@pytest.mark.parametrize(
    "broken",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data + b" ",
        lambda data: data.replace(b'"lib/a.py"', b'"lib/z.py"'),
        lambda data: b"0" + data[1:],
        lambda data: b"\xff" * 100,
    ],
    ids=["empty", "torn", "longer", "altered", "another version", "no text"],
)
def test_what_is_remembered_wrongly_is_not_believed(settled: Path, broken: object) -> None:
    """A file that is not exactly what was written counts as none."""
    before = keys(settled)
    place = settled / remembered.PLACE
    data = place.read_bytes()
    place.write_bytes(broken(data))  # type: ignore[operator]
    assert keys(settled) == before
    assert place.read_bytes().partition(b"\n")[0] == data.partition(b"\n")[0]


@pytest.mark.requirement("R4.3")
def test_without_a_place_to_remember_it_works_as_well(tree: Path) -> None:
    """`.rpa` may be a file, or a folder of somebody else."""
    before = keys(tree)
    shutil.rmtree(tree / ".rpa")
    (tree / ".rpa").write_text("in the way")
    assert keys(tree) == before


_WRITER = """
import sys
from pathlib import Path
from ci.images import remembered
remembered._RACY_NS = 0
root = Path(sys.argv[1])
print("ready", flush=True)
while True:
    one = remembered.Remembered(root)
    for path in sorted((root / "lib").glob("n*.py")):
        one.file(f"lib/{path.name}")
    one._dirty = True
    one.save()
"""


@pytest.mark.requirement("R4.3")
@pytest.mark.slow
def test_a_killed_process_leaves_what_was_remembered_whole(tree: Path) -> None:
    """At whatever instruction: the next one finds the old file or the new one, and the right keys."""
    for number in range(400):
        (tree / f"lib/n{number}.py").write_text(f"N = {number}\n")
    right = keys(tree)
    kept = 0
    for number in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tree)], cwd=ROOT, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
        )
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + number * 0.013
        until(lambda deadline=deadline: time.monotonic() > deadline, timeout_s=20, what="some work", every_s=0.001)  # type: ignore[misc]
        process.kill()
        process.wait()
        process.stdout.close()
        whole = bool(Remembered(tree)._files)
        assert whole or not kept, "torn"
        kept += whole
        assert keys(tree) == right
    assert kept, "no process got as far as writing"
