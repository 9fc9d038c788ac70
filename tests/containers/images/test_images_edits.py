"""Which images an edit builds, and which of their steps run."""

from __future__ import annotations

import pytest
from ci import docker
from ci.errors import ToolError
from tests.containers.images.workbench import CORE_FILE, Workspace, layers

_FLOW_FILE = "packages/flows/src/rpa_flows/rpa2/flow.py"
_EVERY = ("rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3")
_INSTALLS = ("packages 2", "system 1", "tools", "environment 1")  # steps of layers that come before our own code


@pytest.mark.slow
@pytest.mark.requirement("R4.3", "R4.4", "R5.6")
def test_an_edit_builds_the_images_that_hold_the_file(workspace: Workspace) -> None:
    """A flow's file: its image, on the cached base. Core's: base and dependants, no package is installed again."""
    first, shown = workspace.build()
    assert first.built == _EVERY
    assert "rpa-base: core 2" in shown
    assert workspace.build()[0].built == ()
    before = {image: layers(workspace.name(image)) for image in _EVERY}

    workspace.edit(_FLOW_FILE, "# another")
    assert workspace.build()[0].built == ("rpa-flow2",)
    after = {image: layers(workspace.name(image)) for image in _EVERY}
    assert [image for image in _EVERY if after[image] != before[image]] == ["rpa-flow2"]
    assert after["rpa-flow2"][:-1] == before["rpa-flow2"][:-1]

    workspace.edit(CORE_FILE, "# another")
    report, _ = workspace.build()
    assert report.built == _EVERY
    ran = [step for step in report.steps if not step.cached]
    assert [step.name for step in ran if step.name.startswith(_INSTALLS)] == []
    assert {step.image for step in ran} == set(_EVERY)
    assert any(step.cached and step.name.startswith("packages 2") for step in report.steps)
    last = {image: layers(workspace.name(image)) for image in _EVERY}
    core = next(number for number, layer in enumerate(last["rpa-base"]) if layer != after["rpa-base"][number])
    assert core == len(last["rpa-base"]) - 1, "only core's layer differs"
    for image in _EVERY[1:]:
        assert last[image][:-1] == last["rpa-base"], f"{image} stands on the new base"
        assert last[image][-1] == after[image][-1], f"{image}'s own layer is taken as it is"


@pytest.mark.slow
@pytest.mark.requirement("R4.4")
def test_going_back_needs_no_build(workspace: Workspace) -> None:
    """A -> B -> A: the image of A is still there, only the tag moves."""
    workspace.build()
    file = workspace.root / _FLOW_FILE
    original, first = file.read_bytes(), docker.inspect("image", [workspace.name("rpa-flow2")])[0]["Id"]
    workspace.edit(_FLOW_FILE, "# another")
    workspace.build()
    assert docker.inspect("image", [workspace.name("rpa-flow2")])[0]["Id"] != first
    file.write_bytes(original)
    report, _ = workspace.build()
    assert (report.built, report.tagged) == ((), ("rpa-flow2",))
    assert docker.inspect("image", [workspace.name("rpa-flow2")])[0]["Id"] == first


@pytest.mark.slow
@pytest.mark.requirement("R4.2", "R4.8")
@pytest.mark.parametrize(
    ("path", "replaced", "by", "complaint"),
    [
        ("docker/images.toml", '"rpa_flows/data/*.toml", "rpa_flows/migrations', '"rpa_flows/migrations', "anes96"),
        ("docker/images.toml", '"rpa_flows/rpa1/*.sql",', "", "insert_responses.sql"),
        (
            "docker/images.toml",
            'files = ["rpa_core/**"]',
            'files = ["rpa_core/**"], exclude = ["**/units.py"]',
            "units",
        ),
        ("docker/base/Dockerfile", "COPY core/ /app/core/", "COPY core/ README.md /app/core/", "README.md"),
    ],
)
def test_what_was_not_declared_ends_the_build(
    workspace: Workspace, path: str, replaced: str, by: str, complaint: str
) -> None:
    """Missing data, an SQL file, a module, a file that only the Dockerfile knows: named, and no tag appears."""
    file = workspace.root / path
    text = file.read_text(encoding="utf-8")
    assert replaced in text
    file.write_text(text.replace(replaced, by, 1), encoding="utf-8")
    with pytest.raises(ToolError) as caught:
        workspace.build()
    said = str(caught.value)
    assert complaint in said, said
    assert "docker buildx bake" in said, "the command that repeats it"
    assert not [name for one in docker.images() for name in one.tags if name.startswith(workspace.prefix)]


@pytest.mark.slow
@pytest.mark.requirement("R4.3")
def test_a_child_is_built_on_the_parent_that_its_key_names(workspace: Workspace) -> None:
    """Even where the parent's moving tag names something else, and the parent itself is current."""
    workspace.build()
    base = docker.inspect("image", [workspace.name("rpa-base")])[0]["Id"]
    docker.tag("python:3.13-slim-trixie", workspace.name("rpa-base"))
    workspace.edit(_FLOW_FILE, "# another")
    report, _ = workspace.build()
    assert (report.built, report.tagged) == (("rpa-flow2",), ("rpa-base",))
    assert docker.inspect("image", [workspace.name("rpa-base")])[0]["Id"] == base
    assert layers(workspace.name("rpa-flow2"))[:-1] == layers(workspace.name("rpa-base"))
