"""What is done about each image, and the reason that is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from ci.errors import ToolError
from ci.images import explain, graph, manifest, plan
from ci.images.model import (
    IMAGE_LABEL,
    KEY_LABEL,
    MANIFEST_LABEL,
    Action,
    Change,
    Contents,
    Decision,
    Declaration,
    Existing,
    Image,
    Plan,
    Tree,
    key_tag,
    tag,
)
from ci.images.origins import sentence

_LIB = Tree(source="packages/core/src", to="core", at="/app/core", files=("**",))
_CODE = Tree(source="packages/flows/src", to="flow", at="/app/flow", entry=("pkg.one",))
_IMAGES = {
    "base": Image(
        name="base",
        title="the base",
        environment="production",
        dockerfile="docker/base/Dockerfile",
        trees=(_LIB,),
        bases={"python": "python:3.13"},
        locks={"locks/run.txt": "requirements/run.txt"},
    ),
    "one": Image(
        name="one", title="one", environment="production", dockerfile="docker/Dockerfile", trees=(_CODE,),
        parents=("base",), flows=("one",), args={"FLOW": "one"},
    ),
    "two": Image(
        name="two", title="two", environment="production", dockerfile="docker/Dockerfile", trees=(_CODE,),
        parents=("base",),
    ),
}  # fmt: skip
_DECLARATION = Declaration(environment="production", python="3.13", platform="linux/amd64", images=_IMAGES)
_INPUTS: dict[str, dict[str, str]] = {
    "base": {
        "file:core/a.py": "aa",
        "file:Dockerfile": "dd",
        "base:python": "python:3.13 sha256:1",
        "lock:locks/run.txt:click": "8.5.1 hh",
    },
    "one": {"file:flow/pkg/one.py": "11", "arg:FLOW": "one"},
    "two": {"file:flow/pkg/two.py": "22"},
}


def contents(**more: Mapping[str, str | None]) -> dict[str, Contents]:
    """With other inputs; None: without that input."""
    made = dict[str, Contents]()
    for name, image in _IMAGES.items():
        inputs = {**_INPUTS[name], **{f"parent:{parent}": made[parent].key for parent in image.parents}}
        given = {key: value for key, value in {**inputs, **more.get(name, {})}.items() if value is not None}
        made[name] = Contents(image=image, entries=(), manifest=given, key=manifest.key(given))
    return made


def built(
    one: Contents, labels: Mapping[str, str] | None = None, *, tags: tuple[str, ...] | None = None, number: int = 1
) -> Existing:
    """As an engine lists it."""
    name = one.image.name
    both = (tag("", name, "production"), key_tag("", name, one.key))
    return Existing(
        id=f"sha256:{name}{number}",
        tags=both if tags is None else tags,
        labels={
            KEY_LABEL: one.key,
            MANIFEST_LABEL: json.dumps(dict(one.manifest)),  # spelt in another way than the key's own
            IMAGE_LABEL: name,
            **(labels or {}),
        },
        created=number,
    )


def decide(now: dict[str, Contents], *existing: Existing, **more: object) -> dict[str, Decision]:
    """By the image's name."""
    made = plan.make(_DECLARATION, now, existing, prefix="", **more)  # type: ignore[arg-type]
    return {one.contents.image.name: one for one in made.decisions}


def _all(now: dict[str, Contents]) -> list[Existing]:
    return [built(one) for one in now.values()]


@pytest.mark.requirement("R4.3", "R4.4")
def test_nothing_is_done_where_every_key_exists() -> None:
    """And every tag names it."""
    now = contents()
    assert {one.action for one in decide(now, *_all(now)).values()} == {Action.NOTHING}


@pytest.mark.requirement("R4.4")
def test_a_changed_flow_is_built_alone() -> None:
    """On the base as it is."""
    found = decide(contents(one={"file:flow/pkg/one.py": "12"}), *_all(contents()))
    assert {name: one.action.name for name, one in found.items()} == {
        "base": "NOTHING",
        "one": "BUILD",
        "two": "NOTHING",
    }
    assert found["one"].reason == "packages/flows/src/pkg/one.py changed"
    assert found["one"].changes == (Change(input="file:flow/pkg/one.py", before="11", after="12"),)


@pytest.mark.requirement("R4.3")
def test_a_changed_base_takes_its_children_along() -> None:
    """Each says which parent it was."""
    found = decide(contents(base={"file:core/a.py": "ab"}), *_all(contents()))
    assert [one.action for one in found.values()] == [Action.BUILD] * 3
    assert [one.reason for one in found.values()] == [
        "packages/core/src/a.py changed", "its parent base changed", "its parent base changed",
    ]  # fmt: skip


@pytest.mark.requirement("R4.8")
@pytest.mark.parametrize(
    ("given", "value", "reason"),
    [
        ("file:core/a.py", "ab", "packages/core/src/a.py changed"),
        ("file:core/a.py", "aa x", "packages/core/src/a.py is now executable"),
        ("file:core/a.py", "-> b.py", "packages/core/src/a.py is a symbolic link"),
        ("file:core/a.py", None, "packages/core/src/a.py is gone"),
        ("file:core/b.py", "bb", "packages/core/src/b.py is new"),
        ("file:Dockerfile", "de", "docker/base/Dockerfile changed"),
        ("base:python", "python:3.13 sha256:2", "its base python:3.13 is another image now"),
        ("base:python", "python:3.14 sha256:2", "its base is python:3.14, was python:3.13"),
        ("lock:locks/run.txt:click", "8.5.2 hh", "requirements/run.txt: click 8.5.1 -> 8.5.2"),
        ("lock:locks/run.txt:click", "8.5.1 ii", "requirements/run.txt: click 8.5.1 with other hashes"),
        ("lock:locks/run.txt:click", None, "requirements/run.txt: click 8.5.1 is gone"),
        ("lock:locks/run.txt:rich", "1 ii", "requirements/run.txt: rich 1 is new"),
        ("arg:A", "1", "build argument A is new (1) in docker/images.toml"),
        ("python", "3.14", "python is new (3.14) in docker/images.toml"),
    ],
)
def test_the_first_difference_is_the_reason(given: str, value: str | None, reason: str) -> None:
    """In the words of the workspace, not of the build context."""
    assert decide(contents(base={given: value}), *_all(contents()))["base"].reason == reason


@pytest.mark.requirement("R4.8")
def test_values_are_named_before_and_after() -> None:
    """What was, and what is."""
    image = _IMAGES["one"]
    assert sentence(image, Change(input="arg:FLOW", before="one", after="two")) == "build argument FLOW is two, was one"
    assert sentence(image, Change(input="platform", before="a", after="b")) == "platform is b, was a"
    assert sentence(image, Change(input="parent:base", before=None, after="k")) == "base is now its parent"
    link = Change(input="file:flow/x", before="-> a", after="-> b")
    assert sentence(image, link) == "packages/flows/src/x links to b, was a"
    flow = Change(input="file:flow/rpa_flows-1.dist-info/METADATA", before="1", after="2")
    assert sentence(image, flow) == "packages/flows/pyproject.toml changed"


@pytest.mark.requirement("R4.8")
def test_never_built_removed_and_made_of_something_else_are_told_apart() -> None:
    """Three reasons for an image that is not there."""
    now = contents()
    assert {one.reason for one in decide(now).values()} == {"never built"}
    children = [built(now["one"]), built(now["two"])]
    gone = "base:production was built as it is now, and is gone: removed or pruned"
    assert decide(now, *children)["base"].reason == gone
    assert decide(now, seen=[now["base"].key])["base"].reason == gone
    other = contents(base={"file:core/a.py": "old"})["base"]
    found = decide(now, built(other, tags=()))["base"]
    assert found.reason == "base:production is not there; what there is of it was made of something else"


@pytest.mark.requirement("R4.3")
def test_an_image_with_the_key_is_tagged_not_built() -> None:
    """Going back to an earlier state builds nothing."""
    before, now = contents(), contents(one={"file:flow/pkg/one.py": "12"})
    earlier = built(now["one"], tags=(key_tag("", "one", now["one"].key),), number=2)
    found = decide(now, *_all(before), earlier)["one"]
    assert (found.action, found.existing) == (Action.TAG, earlier.id)
    assert found.reason == "an image with its key exists, one:production names another one"
    assert decide(now, built(now["base"]), earlier)["one"].reason.endswith("one:production is not there")
    untold = built(now["one"], tags=("one:production",))
    found = decide(now, built(now["base"]), untold)["one"]
    assert found.action is Action.TAG
    assert found.reason.startswith("it has not its staying tag one:k-")


@pytest.mark.requirement("R4.3")
def test_labels_that_do_not_agree_are_not_trusted() -> None:
    """A key alone, by hand or by accident, makes no image current; neither does another image's."""
    now = contents()
    rest = [built(now["base"]), built(now["two"])]
    old = json.dumps(dict(contents(one={"file:flow/pkg/one.py": "10"})["one"].manifest))
    for text in ("{}", "", "[1]", '{"file:x": 3}', "not JSON", old):
        found = decide(now, *rest, built(now["one"], {MANIFEST_LABEL: text}))["one"]
        assert found.action is Action.BUILD
        assert found.reason == "one:production claims its key with a manifest of another: not trusted"
        assert found.changes == ()
    stale = built(contents(one={"arg:FLOW": "x"})["one"], {MANIFEST_LABEL: "{}"})
    assert decide(now, *rest, stale)["one"].reason.endswith("does not belong to its key: not trusted")
    foreign = Existing(id="sha256:f", tags=("one:production",), labels={})
    assert decide(now, *rest, foreign)["one"].reason == "one:production carries no key: it was made by something else"
    other = built(now["one"], {IMAGE_LABEL: "two"})
    found = decide(now, *rest, other)["one"]
    assert (found.action, found.reason) == (Action.BUILD, "one:production is another image: two")


@pytest.mark.requirement("R4.3")
def test_a_parent_that_is_built_takes_current_children_along() -> None:
    """What they stand on would otherwise be another image than the one with the tag."""
    now = contents()
    found = decide(now, built(now["one"]), built(now["two"]))
    assert [one.action for one in found.values()] == [Action.BUILD] * 3
    assert found["one"].reason == "its parent base is built"


@pytest.mark.requirement("R4.4")
def test_only_what_is_wanted_is_decided() -> None:
    """With its parents; an unknown name gets the nearest."""
    assert list(decide(contents(), wanted=["two"])) == ["base", "two"]
    assert list(decide(contents(), wanted=["base"])) == ["base"]
    with pytest.raises(ToolError, match='there is no image "too"; did you mean "two"'):
        decide(contents(), wanted=["too"])


@pytest.mark.requirement("R4.3")
def test_a_missing_base_is_the_reason() -> None:
    """With both ways to get it."""
    now = contents(base={"base:python": "python:3.13 absent"})
    expected = "its base python:3.13 is not here (docker pull python:3.13, or invoke build.bootstrap)"
    assert decide(now)["base"].reason == expected
    assert decide(now, *_all(contents()))["base"].reason == expected


@pytest.mark.requirement("R4.4")
def test_a_prefix_separates_images() -> None:
    """Tags of another prefix are other tags."""
    now = contents()
    made = plan.make(_DECLARATION, now, _all(now), prefix="registry.example/team/")
    assert {one.action for one in made.decisions} == {Action.TAG}


def _plan() -> Plan:
    now = contents(base={"file:core/a.py": "ab"})
    now["base"] = replace(now["base"], notes=("something",))
    return plan.make(_DECLARATION, now, _all(contents()), prefix="")


@pytest.mark.requirement("R4.8")
def test_a_plan_reads_as_text_and_as_json() -> None:
    """A line each, all of it on demand; the same for machines."""
    made = _plan()
    text = explain.text(made, full=True, chain=lambda image, path: ["entry", f"{image.name} {path}"])
    assert text.splitlines()[:4] == [
        "build    base  packages/core/src/a.py changed",
        "           packages/core/src/a.py changed",
        "             imported: entry -> base core/a.py",
        "           note: something",
    ]
    assert text.splitlines()[-1] == "production: 3 to build, 0 to tag, 0 current"
    document = json.loads(explain.document(made, prefix="p/"))
    first = document["images"][0]
    assert (first["image"], first["action"], first["tag"]) == ("base", "build", "p/base:production")
    assert first["changes"][0]["path"] == "packages/core/src/a.py"
    now = contents()
    done = plan.make(_DECLARATION, now, _all(now), prefix="")
    assert explain.summary(done) == "nothing to do: base, one, two are current"


@pytest.mark.requirement("R4.8")
def test_the_graph_is_drawn_in_three_forms() -> None:
    """Bases, parents and children; an unknown form is refused."""
    now = contents()
    assert graph.draw(now).splitlines() == [
        "python:3.13",
        "└── base  0 files, the base",
        "    ├── one  0 files, one",
        "    └── two  0 files, two",
    ]
    mermaid = graph.draw(now, "mermaid")
    assert "base0 --> image0" in mermaid
    assert "image0 --> image2" in mermaid
    assert [one["parents"] for one in json.loads(graph.draw(now, "json"))["images"]] == [[], ["base"], ["base"]]
    with pytest.raises(ToolError, match='no format "mermaide"; did you mean "mermaid"'):
        graph.draw(now, "mermaide")
