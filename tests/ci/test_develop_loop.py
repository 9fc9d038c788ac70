"""The development loop on a copy of the workspace, with containers that are dictionaries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ci.develop.changes import Changes, Effect, FileChange
from ci.errors import ToolError
from tests.ci.develop_fakes import CORE, FLOW, Loop, copy_workspace

pytestmark = pytest.mark.requirement("R4.5", "R4.8")


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    """Images are current, two containers of rpa1 and one of each other flow run, everything was looked at once."""
    made = Loop(copy_workspace(tmp_path))
    made.build()
    made.built.clear()
    for service, index in (("rpa1", 1), ("rpa1", 2), ("rpa2", 1), ("rpa3", 1)):
        made.engine.run(service, made.inside(service), index=index)
    assert made.orchestrator.detect_code_changes() == Changes()
    assert made.orchestrator.synchronize() == []
    return made


def only(changes: Changes) -> FileChange:
    (found,) = changes.files
    return found


def test_a_flow_file_goes_into_its_own_containers(loop: Loop) -> None:
    """Both of them, and only their workers restart; one line says so."""
    loop.save(f"{FLOW}/rpa1/flow.py", text="VERSION = 2\n")
    for name in ("rpa-rpa1-1", "rpa-rpa1-2"):
        assert loop.engine.files[name]["/app/flow/rpa_flows/rpa1/flow.py"] == (b"VERSION = 2\n", 0o644)
    assert sorted(loop.engine.reloads) == ["rpa-rpa1-1", "rpa-rpa1-2"]
    assert loop.built == []
    line = next(line for line in loop.said if "rpa1/flow.py" in line)
    assert line.startswith(f"{FLOW}/rpa1/flow.py (edited) -> rpa-flow1 -> rpa-rpa1-1, rpa-rpa1-2: sync, live after ")


def test_a_core_file_goes_into_all_containers(loop: Loop) -> None:
    """They are all built on the base."""
    loop.save(f"{CORE}/errors.py", text="# nothing left\n")
    assert sorted(loop.engine.reloads) == ["rpa-rpa1-1", "rpa-rpa1-2", "rpa-rpa2-1", "rpa-rpa3-1"]
    for files in loop.engine.files.values():
        assert files["/app/core/rpa_core/errors.py"][0] == b"# nothing left\n"


@pytest.mark.requirement("R4.4")
@pytest.mark.parametrize("name", ["docs/page.md", "tests/test_it.py", f"{FLOW}/rpa1/notes.txt"])
def test_what_no_image_contains_changes_nothing(loop: Loop, name: str) -> None:
    """And the reason is given."""
    loop.save(name, text="something else\n")
    assert loop.engine.reloads == []
    assert loop.said == [f"{name} ({'created' if 'notes' in name else 'edited'}): nothing, no image contains it"]


def test_there_and_back_again_is_no_change(loop: Loop) -> None:
    """Content counts: not time, not that it was written."""
    path = loop.root / FLOW / "rpa2/flow.py"
    before = path.read_bytes()
    path.write_text("something else\n")
    path.write_bytes(before)
    assert loop.orchestrator.detect_code_changes() == Changes()
    path.touch()
    loop.take_in(f"{FLOW}/rpa2/flow.py")
    assert (loop.engine.reloads, loop.said) == ([], [])


def test_a_new_file_comes_in_when_it_is_imported(loop: Loop) -> None:
    """Until then no image contains it; both are seen as what they are."""
    (loop.root / FLOW / "rpa2/weights.py").write_text("ONE = 1\n")
    found = only(loop.orchestrator.detect_code_changes())
    assert (found.kind, found.effect, found.images) == ("created", Effect.NOTHING, ())
    settings = loop.root / FLOW / "rpa2/settings.py"
    settings.write_text(settings.read_text() + "\nfrom rpa_flows.rpa2 import weights as weights\n")
    changes = loop.orchestrator.detect_code_changes()
    assert [(Path(one.path).name, one.kind, one.effect) for one in changes.files] == [
        ("settings.py", "edited", Effect.SYNC),
        ("weights.py", "joined", Effect.SYNC),
    ]
    loop.orchestrator.synchronize()
    assert loop.engine.files["rpa-rpa2-1"]["/app/flow/rpa_flows/rpa2/weights.py"][0] == b"ONE = 1\n"


def test_a_deleted_file_leaves_the_containers(loop: Loop) -> None:
    """And nothing else does."""
    held = set(loop.engine.files["rpa-rpa2-1"])
    (loop.root / CORE / "resilience/retry.py").unlink()
    loop.take_in(f"{CORE}/resilience/retry.py")
    assert held - set(loop.engine.files["rpa-rpa2-1"]) == {"/app/core/rpa_core/resilience/retry.py"}
    assert any("resilience/retry.py (deleted) -> rpa-base" in line for line in loop.said)


def test_a_renamed_folder_arrives_as_one(loop: Loop) -> None:
    """The old package is gone with its folder: an empty one could still be imported."""
    shutil.move(loop.root / CORE / "resilience/disk", loop.root / CORE / "patience")
    loop.take_in(f"{CORE}/resilience/disk", *(f"{CORE}/patience{name}" for name in ("", "/space.py", "/__init__.py")))
    assert set(loop.engine.removed) == {"/app/core/rpa_core/resilience/disk"}
    files = loop.engine.files["rpa-rpa1-2"]
    assert "/app/core/rpa_core/patience/space.py" in files
    assert not any("/resilience/disk/" in path for path in files)
    line = next(line for line in loop.said if "patience/space.py" in line)
    assert line.startswith(f"{CORE}/patience/space.py (renamed from {CORE}/resilience/disk/space.py) -> rpa-base -> ")


def test_a_folder_in_the_place_of_another(loop: Loop) -> None:
    """Two moves, and events that name folders alone: every file below is looked at."""
    folder = loop.root / CORE / "resilience/disk"
    (folder.parent / "fresh").mkdir()
    for path in folder.iterdir():
        (folder.parent / "fresh" / path.name).write_text(f"# fresh {path.name}\n")
    shutil.rmtree(folder)
    (folder.parent / "fresh").rename(folder)
    loop.take_in(f"{CORE}/resilience/disk", f"{CORE}/fresh")
    assert loop.engine.files["rpa-rpa1-1"]["/app/core/rpa_core/resilience/disk/space.py"][0] == b"# fresh space.py\n"
    assert any(line.startswith(f"{CORE}/resilience/disk/space.py (edited) -> ") for line in loop.said)
    assert loop.orchestrator.detect_code_changes() == Changes()


def test_a_module_that_becomes_a_package(loop: Loop) -> None:
    """The file goes before the folder of its name comes; and back."""
    module = loop.root / CORE / "clock.py"
    text = module.read_text()
    module.unlink()
    loop.save(f"{CORE}/clock/__init__.py", text=text)
    files = loop.engine.files["rpa-rpa3-1"]
    assert "/app/core/rpa_core/clock/__init__.py" in files
    assert "/app/core/rpa_core/clock.py" not in files


def test_a_mode_is_a_change(loop: Loop) -> None:
    """A file that can be executed is another one."""
    path = loop.root / FLOW / "rpa3/flow.py"
    path.chmod(0o755)
    loop.take_in(f"{FLOW}/rpa3/flow.py")
    assert loop.engine.files["rpa-rpa3-1"]["/app/flow/rpa_flows/rpa3/flow.py"][1] == 0o755


@pytest.mark.parametrize("name", ["docker/flow/Dockerfile", "docker/base/rpa", "requirements/runtime.txt"])
def test_the_environment_is_rebuilt(loop: Loop, name: str) -> None:
    """A Dockerfile, a program in the image, a pinned package: images that stand on what changed are asked for too."""
    path = loop.root / name
    text = path.read_text()
    path.write_text(text.replace("--hash=sha256:", "--hash=sha256:f", 1) if "--hash" in text else f"{text}# more\n")
    loop.take_in(name)
    flows = ("rpa-flow1", "rpa-flow2", "rpa-flow3")
    assert loop.built == [flows if "flow" in name else ("rpa-base", *flows)]
    assert loop.engine.reloads == []
    assert any(line.startswith(f"{name} (edited) -> ") and ": rebuild, " in line for line in loop.said), loop.said


def test_a_declaration_that_says_the_same_is_no_change(loop: Loop) -> None:
    """A comment in images.toml is read, and nothing comes of it."""
    path = loop.root / "docker/images.toml"
    loop.save("docker/images.toml", text=f"{path.read_text()}\n# a remark\n")
    assert (loop.built, loop.engine.reloads) == ([], [])
    assert "nothing" in loop.said[0]


def test_a_failed_rebuild_is_tried_again(loop: Loop) -> None:
    """With the next save, whatever it is; code is synced meanwhile."""
    loop.build_code = 1
    dockerfile = loop.root / "docker/flow/Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "RUN false\n")
    (loop.root / FLOW / "rpa2/flow.py").write_text("VERSION = 2\n")
    loop.take_in("docker/flow/Dockerfile", f"{FLOW}/rpa2/flow.py")
    assert loop.engine.reloads == ["rpa-rpa2-1"]
    loop.build_code = 0
    loop.save("docs/page.md", text="more\n")
    assert [len(one) for one in loop.built] == [3, 3]
    loop.save("docs/page.md", text="still more\n")
    assert len(loop.built) == 2


def test_only_images_of_containers_are_rebuilt(loop: Loop) -> None:
    """What nobody runs can wait until somebody asks for it."""
    del loop.engine.known["rpa-rpa1-1"], loop.engine.known["rpa-rpa1-2"], loop.engine.known["rpa-rpa3-1"]
    loop.append("docker/base/Dockerfile", "# more\n")
    assert loop.built == [("rpa-base", "rpa-flow2")]


def test_an_image_that_does_not_exist_is_built(tmp_path: Path) -> None:
    """The first look compares with what the engine has."""
    loop = Loop(copy_workspace(tmp_path))
    loop.build()
    loop.images = [one for one in loop.images if "rpa-flow3:development" not in one.tags]
    changes = loop.orchestrator.detect_code_changes()
    assert (changes.files, changes.missing) == ((), ("rpa-flow3",))
    assert loop.orchestrator.rebuild_affected_containers() == ()  # no container would become another one
    loop.engine.run("rpa3", loop.inside("rpa3"))
    assert loop.orchestrator.rebuild_affected_containers() == ("rpa-flow3",)


def test_the_first_look_finds_what_changed_since_the_build(loop: Loop) -> None:
    """The images' own manifests are the memory; nothing else is kept."""
    with (loop.root / FLOW / "rpa1/flow.py").open("a") as file:
        file.write("VERSION = 3\n")
    (loop.root / CORE / "resilience/retry.py").unlink()
    changes = loop.another().detect_code_changes()
    assert [(Path(one.path).name, one.kind) for one in changes.files] == [
        ("retry.py", "deleted"),
        ("flow.py", "edited"),
    ]
    assert {one.effect for one in changes.files} == {Effect.SYNC}


def test_a_recreated_container_gets_the_files_again(loop: Loop) -> None:
    """It starts from its image; what was saved since comes in before anybody asks."""
    loop.save(f"{FLOW}/rpa1/flow.py", text="VERSION = 4\n")
    loop.engine.reloads.clear()
    old = {path: one for path, one in loop.inside("rpa1").items() if not path.endswith("rpa1/flow.py")}
    loop.engine.run("rpa1", {**old, "/app/flow/rpa_flows/rpa1/flow.py": (b"old", 0o644)}, index=2)
    loop.take_in(container="any")
    assert loop.engine.files["rpa-rpa1-2"]["/app/flow/rpa_flows/rpa1/flow.py"][0] == b"VERSION = 4\n"
    assert loop.engine.reloads == ["rpa-rpa1-2"]
    assert loop.said[-1].startswith("rpa-rpa1-2 -> 1 files copied, 0 removed: sync, live after ")


def test_a_started_container_that_is_in_step_is_left_alone(loop: Loop) -> None:
    """It is read, found right, and not restarted; the others are not even read."""
    loop.engine.reads.clear()
    loop.engine.restarted("rpa-rpa3-1")
    loop.take_in(container="any")
    assert loop.engine.reloads == []
    assert set(loop.engine.reads) == {"rpa-rpa3-1"}


def test_what_is_inside_is_read_not_believed(loop: Loop) -> None:
    """Files that somebody else left in a container go; compiled ones are Python's."""
    files = loop.inside("rpa2")
    files["/app/flow/rpa_flows/rpa2/stray.py"] = (b"", 0o644)
    files["/app/flow/rpa_flows/rpa2/__pycache__/stray.cpython-313.pyc"] = (b"", 0o644)
    files["/app/other/thing.py"] = (b"", 0o644)
    loop.engine.run("rpa2", files)
    loop.take_in(container="any")
    left = set(loop.engine.files["rpa-rpa2-1"]) - set(loop.inside("rpa2"))
    assert left == {"/app/flow/rpa_flows/rpa2/__pycache__/stray.cpython-313.pyc", "/app/other/thing.py"}


def test_a_container_that_cannot_be_written_does_not_hold_up_the_others(loop: Loop) -> None:
    """It is said, and tried again with the next save."""
    loop.engine.broken = {"rpa-rpa1-1"}
    loop.save(f"{FLOW}/rpa1/flow.py", text="VERSION = 5\n")
    assert loop.engine.reloads == ["rpa-rpa1-2"]
    assert "  rpa-rpa1-1: nothing can be copied in" in loop.said
    loop.engine.broken = set()
    loop.save("docs/page.md", text="more\n")
    assert loop.engine.files["rpa-rpa1-1"]["/app/flow/rpa_flows/rpa1/flow.py"][0] == b"VERSION = 5\n"
    assert loop.engine.reloads == ["rpa-rpa1-2", "rpa-rpa1-1"]


def test_a_syntax_error_is_synced_and_said(loop: Loop) -> None:
    """With the place, and with what the container said; the next save heals."""
    held = set(loop.engine.files["rpa-rpa2-1"])
    good = (loop.root / FLOW / "rpa2/flow.py").read_text()
    loop.engine.answer = lambda _: {"live": False, "code": 1, "problem": "it ended with code 1"}
    loop.save(f"{FLOW}/rpa2/flow.py", text="def broken(:\n")
    assert loop.engine.files["rpa-rpa2-1"]["/app/flow/rpa_flows/rpa2/flow.py"][0] == b"def broken(:\n"
    said = "\n".join(loop.said)
    assert set(loop.engine.files["rpa-rpa2-1"]) == held  # what it imports is not known, so nothing else goes or comes
    assert "flow.py:1: invalid syntax" in said
    assert "sync, not live" in said
    assert "rpa-rpa2-1 is not live: it ended with code 1\n    its last words" in said
    loop.engine.answer = lambda _: {"live": True}
    loop.save(f"{FLOW}/rpa2/flow.py", text=good)
    assert set(loop.engine.files["rpa-rpa2-1"]) == held
    assert "live after" in loop.said[-1]


def test_what_all_replicas_say_is_shown_once(loop: Loop) -> None:
    """Each is named; the traceback is the same."""
    loop.engine.answer = lambda _: {"live": False, "code": 1, "problem": "it ended with code 1"}
    loop.engine.words = ["SyntaxError: invalid syntax", "rpa-reload: waiting"]
    loop.save(f"{FLOW}/rpa1/flow.py", text="def broken(:\n")
    assert len([line for line in loop.said if "is not live" in line]) == 2
    assert loop.said.count("    SyntaxError: invalid syntax") == 1


def test_a_broken_file_holds_up_no_other(loop: Loop) -> None:
    """Those that the image had are kept and brought up to date, even what now only the broken one imports."""
    good = (loop.root / FLOW / "rpa2/flow.py").read_text()
    loop.save(f"{FLOW}/rpa2/flow.py", text=f"{good}\ndef (\n")
    loop.append(f"{FLOW}/codebook/scoring.py", "# more\n")
    (loop.root / FLOW / "codebook/memo.py").unlink()
    loop.take_in(f"{FLOW}/codebook/memo.py")
    files = loop.engine.files["rpa-rpa2-1"]
    assert files["/app/flow/rpa_flows/codebook/scoring.py"][0].endswith(b"# more\n")
    assert "/app/flow/rpa_flows/codebook/memo.py" not in files
    loop.save(f"{FLOW}/rpa2/flow.py", text=good)
    loop.said.clear()
    loop.take_in(f"{FLOW}/rpa2/flow.py")
    assert loop.said == []


def test_a_workspace_of_which_no_image_can_be_made_is_survived(loop: Loop) -> None:
    """In the middle of a rename, say: nothing is copied, and the next save compares with the last good look."""
    path = loop.root / "docker/images.toml"
    good = path.read_text()
    loop.save("docker/images.toml", text="python = [\n")
    assert "docker/images.toml" in loop.said[0]
    (loop.root / FLOW / "rpa3/flow.py").write_text("VERSION = 6\n")
    loop.take_in(f"{FLOW}/rpa3/flow.py")
    assert loop.engine.reloads == []
    loop.save("docker/images.toml", text=good)
    assert loop.engine.reloads == ["rpa-rpa3-1"]


def test_a_burst_is_one_restart(loop: Loop) -> None:
    """As when git puts another branch in place."""
    names = [f"{FLOW}/rpa1/{name}.py" for name in ("flow", "hub", "settings")] + [f"docs/{n}.md" for n in range(40)]
    for name in names:
        (loop.root / name).write_text(f"# {name}\n")
    loop.take_in(*names)
    assert sorted(loop.engine.reloads) == ["rpa-rpa1-1", "rpa-rpa1-2"]
    assert "... and 28 more files that need nothing" in loop.said


@pytest.mark.parametrize("state", ["exited", "created", "paused"])
def test_a_container_that_does_not_run_gets_its_files_when_it_starts(loop: Loop, state: str) -> None:
    """Not before: it could start in between, and run what it had."""
    stopped = loop.engine.run("rpa1", loop.inside("rpa1"), index=1, state=state)
    loop.append(f"{FLOW}/rpa1/flow.py", "VERSION = 7\n")
    assert loop.engine.reloads == ["rpa-rpa1-2"]
    assert b"VERSION = 7" not in loop.engine.files[stopped.name]["/app/flow/rpa_flows/rpa1/flow.py"][0]
    loop.engine.restarted(stopped.name)
    loop.take_in(container="any")
    assert b"VERSION = 7" in loop.engine.files[stopped.name]["/app/flow/rpa_flows/rpa1/flow.py"][0]
    assert loop.engine.reloads == ["rpa-rpa1-2", stopped.name]


@pytest.mark.parametrize(("state", "code"), [("restarting", 1), ("exited", 78)])
def test_a_container_whose_worker_fell_is_started_again(loop: Loop, state: str, code: int) -> None:
    """With what was saved; it need not wait for its restart policy."""
    loop.engine.run("rpa2", loop.inside("rpa2"), state=state, exit_code=code)
    loop.append(f"{FLOW}/rpa2/flow.py", "VERSION = 7\n")
    assert loop.engine.restarts == ["rpa-rpa2-1"]
    assert b"VERSION = 7" in loop.engine.files["rpa-rpa2-1"]["/app/flow/rpa_flows/rpa2/flow.py"][0]


def test_only_development_containers_of_the_asked_services_are_touched(loop: Loop) -> None:
    """Others run unsupervised, from production images, or are not asked for."""
    loop.engine.run("rpa1", loop.inside("rpa1"), index=1, supervised=False)
    loop.engine.run("rpa1", loop.inside("rpa1"), index=2, environment="production")
    loop.orchestrator = loop.another(services=["rpa1", "rpa2"])
    loop.orchestrator.detect_code_changes()
    loop.orchestrator.synchronize()
    loop.save(f"{CORE}/errors.py", text="# nothing left\n")
    assert loop.engine.reloads == ["rpa-rpa2-1"]


@pytest.mark.requirement("R4.6")
def test_production_is_refused(loop: Loop) -> None:
    """Neither watched nor debugged, and told why."""
    production = loop.another(environment="production")
    with pytest.raises(ToolError, match=r"dev\.watch is for development: production runs exactly what was built"):
        production.setup_hot_reloading()
    with pytest.raises(ToolError, match=r"dev\.debug is for development"):
        production.provide_debugging_access("rpa1")
    loop.engine.run("rpa1", {}, environment="production")
    with pytest.raises(ToolError, match=r"rpa-rpa1-1: dev\.debug is for development"):
        loop.orchestrator.provide_debugging_access("rpa1")


@pytest.mark.requirement("R4.6")
def test_a_debugger_needs_a_container(loop: Loop) -> None:
    """What runs is named."""
    with pytest.raises(ToolError, match="no container of rpa9 runs; running are rpa1, rpa2, rpa3"):
        loop.orchestrator.provide_debugging_access("rpa9")
    with pytest.raises(ToolError, match="rpa1 has 2 running containers; there is no number 3"):
        loop.orchestrator.provide_debugging_access("rpa1", index=3)


@pytest.mark.requirement("R4.6")
def test_how_to_attach_is_said(loop: Loop) -> None:
    """The port is open while the session lasts; afterwards the worker runs without debugger."""
    with loop.orchestrator.provide_debugging_access("rpa1", port=0, index=2, wait=True) as access:
        assert loop.engine.reloads == ["rpa-rpa1-2 --debug 5678 --wait"]
        assert f'"port": {access.port}' in access.instructions
        assert (
            '"localRoot": "${workspaceFolder}/packages/flows/src",\n      "remoteRoot": "/app/flow"'
            in access.instructions
        )
        assert "1 more of rpa1 take records as well" in access.instructions
        with pytest.raises(ToolError, match=f"port {access.port} cannot be had"):
            loop.orchestrator.provide_debugging_access("rpa1", port=access.port)
    assert loop.engine.reloads[-1] == "rpa-rpa1-2 --no-debug"


@pytest.mark.requirement("R4.6")
def test_a_worker_that_does_not_start_under_the_debugger_gets_out_of_it(loop: Loop) -> None:
    """An image without debugpy, for one."""
    loop.engine.answer = lambda _: {"live": False, "problem": "it ended with code 1"}
    with pytest.raises(ToolError, match="does not start under debugpy: it ended with code 1"):
        loop.orchestrator.provide_debugging_access("rpa2", port=0)
    assert loop.engine.reloads == ["rpa-rpa2-1 --debug 5678", "rpa-rpa2-1 --no-debug"]
