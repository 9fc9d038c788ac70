"""The commands behind `invoke build.*`, with an engine that is only a list."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ci import docker
from ci.errors import ToolError
from ci.images import bake, command, declare, manifest
from ci.images.affected import affected, moved
from ci.images.contents import Gatherer
from ci.images.model import IMAGE_LABEL, KEY_LABEL, MANIFEST_LABEL, Action, Existing, Plan, key_tag, tag
from ci.workspace import ROOT, files

BASE = "python:3.13-slim-trixie"
_BASE = Existing(id="sha256:base", tags=(BASE,), labels={})
_WANTED = ("packages/core/src", "packages/flows/src", "packages/flows/pyproject.toml", "docker", "requirements")


class Engine:
    """What the engine has; `build` makes images of plans."""

    def __init__(self) -> None:
        self.images = [_BASE]
        self.asked = 0
        self.plans = list[Plan]()

    def list(self) -> list[Existing]:
        """One request."""
        self.asked += 1
        return self.images

    def build(self, plan: Plan, *, prefix: str, root: Path, verify: bool = True) -> bake.BuildReport:
        """As `bake.build` does it."""
        self.plans.append(plan)
        for one in plan.of(Action.BUILD):
            name, key = one.contents.image.name, one.contents.key
            labels = {KEY_LABEL: key, MANIFEST_LABEL: manifest.canonical(one.contents.manifest), IMAGE_LABEL: name}
            tags = (tag(prefix, name, plan.declaration.environment), key_tag(prefix, name, key))
            kept = [image for image in self.images if tags[0] not in image.tags]
            self.images = [*kept, Existing(id=f"sha256:{key}", tags=tags, labels=labels)]
        built = tuple(one.contents.image.name for one in plan.of(Action.BUILD))
        return bake.BuildReport(built=built, tagged=(), seconds=1.5, steps=(), ids={})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """In place of the real one."""
    one = Engine()
    monkeypatch.setattr(docker, "images", one.list)
    monkeypatch.setattr(bake, "build", one.build)
    monkeypatch.delenv("RPA_IMAGE_PREFIX", raising=False)
    return one


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of this workspace's images."""
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(_WANTED):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tmp_path / name)
    return tmp_path


def _append(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


@pytest.mark.requirement("R4.3", "R4.4", "R4.8")
def test_selective_builds_what_changed_and_then_nothing(
    tree: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything at first, nothing next, one flow after its edit, all after core's, nothing after going back."""

    def built() -> list[str]:
        before = len(engine.plans)
        assert command.selective(root=tree) == 0
        return [one.contents.image.name for plan in engine.plans[before:] for one in plan.of(Action.BUILD)]

    everything = ["rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3"]
    assert built() == everything
    assert "built rpa-base, rpa-flow1, rpa-flow2, rpa-flow3 in 1.5 s" in capsys.readouterr().out
    assert built() == []
    assert capsys.readouterr().out == "nothing to do: rpa-base, rpa-flow1, rpa-flow2, rpa-flow3 are current\n"
    flow = tree / "packages/flows/src/rpa_flows/rpa3/delivery.py"
    kept = flow.read_text()
    _append(flow)
    assert built() == ["rpa-flow3"]
    assert "packages/flows/src/rpa_flows/rpa3/delivery.py changed" in capsys.readouterr().out
    flow.write_text(kept)
    _append(tree / "packages/core/src/rpa_core/errors.py")
    assert built() == everything
    assert engine.asked == 4


@pytest.mark.requirement("R4.8")
def test_saying_is_not_doing(tree: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run and --explain build nothing; --json prints nothing but JSON."""
    command.selective(root=tree, dry_run=True)
    command.selective(root=tree, explain=True)
    assert engine.plans == []
    capsys.readouterr()
    command.selective(root=tree, dry_run=True, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [(one["image"], one["action"], one["reason"]) for one in said["images"]][:1] == [
        ("rpa-base", "build", "never built")
    ]
    command.selective(root=tree, as_json=True)
    assert json.loads(capsys.readouterr().out) == said
    assert len(engine.plans) == 1


@pytest.mark.requirement("R4.8")
def test_a_missing_base_is_pulled(
    tree: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and only where something is built; a dry run gives it as the reason."""
    pulled = list[str]()

    def run(*arguments: str, timeout_s: float) -> None:
        pulled.append(arguments[-1])
        engine.images = [_BASE]

    monkeypatch.setattr(docker, "run", run)
    engine.images = []
    command.selective(root=tree, dry_run=True)
    assert f"its base {BASE} is not here (docker pull {BASE}, or invoke build.bootstrap)" in capsys.readouterr().out
    assert pulled == []
    command.selective(root=tree)
    command.selective(root=tree)
    assert pulled == [BASE]
    assert len(engine.plans) == 1


@pytest.mark.requirement("R4.8")
def test_a_base_that_cannot_be_pulled_is_an_error(tree: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why, and names the way without a registry."""

    def run(*arguments: str, timeout_s: float) -> None:
        raise ToolError("docker pull failed with 1: no such host")

    monkeypatch.setattr(docker, "run", run)
    engine.images = []
    with pytest.raises(ToolError, match=f"{BASE} is not here .*no such host.*: invoke build.bootstrap"):
        command.selective(root=tree)
    assert engine.plans == []


@pytest.mark.requirement("R5.6")
def test_deploy_replaces_also_where_nothing_was_built(tree: Path, engine: Engine) -> None:
    """An earlier build may not have been deployed, or not to its end."""
    rolled = list[list[str]]()
    command.selective(root=tree)
    assert rolled == []
    command.selective(root=tree, dry_run=True, deploy=lambda images: rolled.append(list(images)))
    assert rolled == []
    command.selective(root=tree, deploy=lambda images: rolled.append(list(images)))
    assert rolled == [["rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3"]]
    assert len(engine.plans) == 1


@pytest.mark.requirement("R4.8")
def test_an_image_that_was_removed_is_told_from_one_that_was_never_there(
    tree: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tools remember which keys they have seen; the decision is the same."""
    command.selective(root=tree, images=["rpa-flow1"])
    engine.images = [_BASE]
    capsys.readouterr()
    command.selective(root=tree, dry_run=True)
    said = capsys.readouterr().out
    assert "rpa-flow1:development was built as it is now, and is gone: removed or pruned" in said
    assert "rpa-flow2  never built" in said


@pytest.mark.requirement("R4.8")
def test_why_names_inputs_chains_and_the_first_difference(
    tree: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the image itself, and of its parent where that is what changed."""
    command.selective(root=tree)
    _append(tree / "packages/flows/src/rpa_flows/codebook/values.py")
    capsys.readouterr()
    command.why("rpa-flow2", root=tree)
    said = capsys.readouterr().out
    assert "packages/flows/src/rpa_flows/rpa2/settings.py  imported by rpa_flows.rpa2.flow" in said
    assert "build: packages/flows/src/rpa_flows/codebook/values.py changed\n" in said
    assert "imported: rpa_flows.rpa2 -> rpa_flows.rpa2.flow -> rpa_flows.codebook.validate" in said
    _append(tree / "packages/core/src/rpa_core/errors.py")
    command.why("rpa-flow3", root=tree)
    said = capsys.readouterr().out
    assert "build: its parent rpa-base changed" in said
    assert "rpa-base: packages/core/src/rpa_core/errors.py changed" in said


@pytest.mark.requirement("R4.8")
def test_bases_are_found_under_all_their_names(tree: Path) -> None:
    """With and without registry, without tag, and pinned by digest."""
    path = tree / "docker/images.toml"
    text = path.read_text()
    listed = [
        Existing(id="sha256:1", tags=("python:latest",), labels={}),
        Existing(id="sha256:2", tags=("r/x:1",), labels={}),
    ]
    for reference, found in {
        "python": "sha256:1",
        "library/python": "sha256:1",
        "library/python:latest": "sha256:1",
        "r/x:1": "sha256:2",
        "r/x": None,
        "python:3@sha256:77": "sha256:77",
    }.items():
        path.write_text(text.replace(f'"{BASE}"', f'"{reference}"'))
        declaration = declare.load(tree, environment="production")
        assert command.base_ids(declaration, listed).get(reference) == found


@pytest.mark.requirement("R4.8")
def test_a_file_knows_its_images(tree: Path) -> None:
    """Itself or in a parent; a deleted one is found by comparing."""
    gatherer = Gatherer(declare.load(tree, environment="development"), root=tree)
    before = gatherer.contents({BASE: "sha256:1"})
    flows = ["rpa-flow1", "rpa-flow2", "rpa-flow3"]
    asked = {
        "packages/core/src/rpa_core/errors.py": ["rpa-base", *flows],
        "packages/flows/src/rpa_flows/codebook/load.py": ["rpa-flow1", "rpa-flow2"],
        "packages/flows/pyproject.toml": flows,
        "docker/flow/Dockerfile": flows,
        "requirements/debug.txt": ["rpa-base", *flows],
        "packages/flows/src/rpa_flows/generator.py": [],
        "README.md": [],
    }
    assert affected(asked, contents=before, root=tree) == asked
    assert affected([tree / "docker/flow/../flow/Dockerfile"], contents=before, root=tree) == {
        "docker/flow/Dockerfile": flows
    }
    (tree / "packages/flows/src/rpa_flows/data/anes96.toml").rename(tree / "packages/flows/src/rpa_flows/data/b.toml")
    _append(tree / "packages/core/src/rpa_core/store/sql/ledger.sql")
    after = Gatherer(declare.load(tree, environment="development"), root=tree).contents({BASE: "sha256:1"})
    assert moved(before, after) == {
        "packages/core/src/rpa_core/store/sql/ledger.sql": ["rpa-base", *flows],
        "packages/flows/src/rpa_flows/data/anes96.toml": ["rpa-flow1", "rpa-flow2"],
        "packages/flows/src/rpa_flows/data/b.toml": ["rpa-flow1", "rpa-flow2"],
    }
    assert affected(["packages/flows/src/rpa_flows/data/anes96.toml"], contents=after, root=tree) == {
        "packages/flows/src/rpa_flows/data/anes96.toml": []
    }


@pytest.mark.requirement("R4.8")
def test_graph_and_groups_need_no_engine(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They look at the workspace alone."""
    assert command.graph(root=tree) == 0
    assert capsys.readouterr().out.splitlines()[:2][0] == BASE
    assert command.group("base", root=tree) == ("rpa-base",)
    assert command.group("flows", root=tree) == ("rpa-flow1", "rpa-flow2", "rpa-flow3")
    assert command.affected(["README.md"], root=tree) == {"README.md": []}


_COUNT = """
import sys
calls = []
sys.addaudithook(lambda event, arguments: calls.append((event, arguments)) if event in
                 ("subprocess.Popen", "os.scandir", "os.listdir", "os.exec", "os.posix_spawn") else None)
from pathlib import Path
from ci import docker
from ci.images import command
from ci.images.model import Existing
docker.images = lambda: [Existing(id="sha256:base", tags=("python:3.13-slim-trixie",), labels={})]
command.selective(dry_run=True, root=Path(sys.argv[1]))
processes = [call for call in calls if "scandir" not in call[0] and "listdir" not in call[0]]
walked = [str(call[1][0]) for call in calls if "scandir" in call[0] or "listdir" in call[0]]
heavy = sorted({"packaging", "subprocess", "rich", "watchfiles", "ci.images.bake"} & set(sys.modules))
print(len(processes), sum("unrelated" in path for path in walked), heavy)
"""


@pytest.mark.requirement("R4.8")
def test_nothing_but_declared_folders_is_looked_at(tree: Path) -> None:
    """No process, no walk through the workspace, no heavy import: what the quick answer rests on."""
    for folder in ("unrelated", "packages/unrelated", "docker/unrelated", "packages/flows/unrelated"):
        (tree / folder).mkdir()
        for number in range(20):
            (tree / folder / f"{number}.py").write_text("x")
    environ = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    command_line = [sys.executable, "-c", _COUNT, str(tree)]
    said = [subprocess.run(command_line, capture_output=True, text=True, check=True, env=environ) for _ in range(2)]
    processes, walked, heavy = said[1].stdout.splitlines()[-1].split(" ", 2)
    assert (processes, walked) == ("0", "0")
    assert heavy in ("[]", "['subprocess']")  # ci.docker knows how to run the CLI
