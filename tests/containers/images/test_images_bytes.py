"""The right bytes: what the builder must not mistake for something it has already, and what is found when it does."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ci import docker
from ci.errors import ToolError
from ci.images import bake
from ci.images.model import Action
from ci.images.verify import verify
from tests.containers.images.workbench import Small, Workspace


def read(image: str, path: str) -> bytes:
    """A file's content inside an image."""
    container = docker.run("create", image, "nothing").stdout.strip()
    try:
        return docker.run("cp", f"{container}:{path}", "-").stdout.encode()
    finally:
        docker.run("rm", "--force", container)


@pytest.mark.requirement("R4.4")
def test_an_edit_of_the_same_size_and_time_is_seen(small: Small, tmp_path: Path) -> None:
    """Builders compare size and time; a context's times are made from its bytes (moby/buildkit#2592)."""
    source = tmp_path / "f.txt"
    for number in range(5):
        source.write_bytes(f"content {number}, always as long\n".encode())
        os.utime(source, ns=(10**18, 10**18))
        contents = small.contents("one", sources={"f.txt": source}, more={"of": small.prefix})
        small.build(contents)
        assert f"content {number}".encode() in read(f"{small.prefix}one:test", "/data/f.txt")
        assert verify(contents, f"{small.prefix}one:test") == []


@pytest.mark.requirement("R4.4")
def test_siblings_with_files_of_one_name_size_and_time_get_their_own(small: Small, tmp_path: Path) -> None:
    """Sibling images of one run (moby/buildkit#4950)."""
    every = []
    for number in range(4):
        source = tmp_path / str(number) / "settings.txt"
        source.parent.mkdir()
        source.write_bytes(f"of image {number}\n".encode())
        os.utime(source, ns=(10**18, 10**18))
        every.append(small.contents(f"s{number}", sources={"settings.txt": source}, more={"of": small.prefix}))
    small.build(*every)
    for number in range(4):
        assert f"of image {number}\n".encode() in read(f"{small.prefix}s{number}:test", "/data/settings.txt")


@pytest.mark.requirement("R4.4")
def test_unusual_names_and_links_arrive_as_they_are(small: Small) -> None:
    """Spaces, other alphabets, and values that a bake file would take for an expression."""
    data = {"ü ñ 漢字.txt": b"1", "a b/c d.txt": b"2", "${name} %{if}.txt": b"3"}
    contents = small.contents("odd", data, more={"of": small.prefix, "arg:X": "${x} %{if y} $$"})
    small.build(contents)
    assert verify(contents, f"{small.prefix}odd:test") == []
    labels = docker.inspect("image", [f"{small.prefix}odd:test"])[0]["Config"]["Labels"]
    assert '"arg:X":"${x} %{if y} $$"' in labels["rpa.manifest"]


@pytest.mark.requirement("R4.8")
def test_a_tampered_image_is_found(small: Small, tmp_path: Path) -> None:
    """Other bytes, another mode, a file too many, one that is gone: each is named."""
    data = {"kept": b"kept", "bytes": b"before", "mode": b"mode", "gone": b"gone"}
    contents = small.contents("plain", data, more={"of": small.prefix})
    small.build(contents)
    tampered = small.contents(
        "tampered",
        {"kept": b"kept", "bytes": b"behind", "mode": b"mode", "extra": b"extra"},
        dockerfile="FROM scratch\nCOPY --chmod=0600 data/mode /data/mode\n"
        "COPY data/kept data/bytes data/extra /data/\n",
        more={"of": small.prefix},
    )
    small.build(tampered, verify=False)
    assert verify(contents, f"{small.prefix}plain:test") == []
    found = verify(contents, f"{small.prefix}tampered:test")
    assert [line.split()[:2] for line in found] == [
        ["different:", "/data/bytes"],
        ["missing:", "/data/gone"],
        ["different:", "/data/mode"],
        ["extra:", "/data/extra"],
    ]
    with pytest.raises(ToolError, match="cannot be looked into"):
        verify(contents, f"{small.prefix}none:test")


@pytest.mark.requirement("R4.8")
def test_a_wrong_image_is_built_again_without_the_cache(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first result is thrown away, and what stands on it; the second is right and gets the tags."""
    parent = small.contents("parent", {"a": b"a"}, more={"of": small.prefix})
    child = small.contents(
        "child",
        {"b": b"b"},
        dockerfile="FROM parent\nCOPY data/b /data/b\n",
        parents=(parent,),
        more={"of": small.prefix},
    )
    looks = list[str]()

    def look(contents: object, image: str) -> list[str]:
        looks.append(image)
        return ["different: /data/a"] if len(looks) == 1 else []

    monkeypatch.setattr(bake, "look_into", look)
    monkeypatch.setattr(bake, "_AT_ONCE", 1)
    report = small.build(parent, child)
    assert report.rebuilt == ("parent", "child")
    assert len(looks) == 4
    assert looks[0] not in {one.id for one in docker.images()}, "the wrong one is gone"
    assert set(report.ids.values()) == set(looks[2:])


@pytest.mark.requirement("R4.8")
def test_an_image_that_stays_wrong_is_not_left_behind(small: Small, tmp_path: Path) -> None:
    """A Dockerfile that changes what it copies: refused, no tag, and no image that a decision could find."""
    dockerfile = "FROM scratch\nCOPY data/ /data/\nCOPY data/a /data/added\n"
    contents = small.contents("wrong", {"a": b"a"}, dockerfile=dockerfile, more={"of": small.prefix})
    with pytest.raises(ToolError, match=r"(?s)extra: /data/added.*built twice"):
        small.build(contents)
    assert small.untagged(contents) == []
    assert not [name for one in docker.images() for name in one.tags if name.startswith(small.prefix)]


@pytest.mark.requirement("R4.8")
def test_an_image_that_nobody_looked_into_is_not_trusted(small: Small) -> None:
    """It has the key and no staying tag, as a killed build leaves it: it is looked into, and built anew if wrong."""
    data = {"a": b"right"}
    contents = small.contents("later", data, more={"of": small.prefix})
    good = small.build(contents).ids["later"]
    docker.run("image", "rm", "--no-prune", f"{small.prefix}later:test")
    wrong = small.contents("wrong", {"a": b"wrong"}, more={"of": small.prefix})
    small.build(wrong, verify=False)
    labels = [part for name in ("key", "manifest") for part in ("--change", f"LABEL rpa.{name}={_label(good, name)}")]
    container = docker.run("create", f"{small.prefix}wrong:test", "nothing").stdout.strip()
    forged = docker.run("commit", *labels, "--change", "LABEL rpa.image=later", container).stdout.strip()
    docker.run("rm", "--force", container)
    docker.run("image", "rm", "--force", good)
    plan = small.plan(contents)
    decision = replace(plan.decisions[0], action=Action.TAG, existing=forged)
    taken = replace(plan, decisions=(decision,))
    report = bake.build(taken, prefix=small.prefix, root=small.root, out=io.StringIO())
    assert report.built == ("later",)
    assert verify(contents, f"{small.prefix}later:test") == []
    assert forged not in {one.id for one in docker.images()}


def _label(image: str, name: str) -> str:
    value = docker.inspect("image", [image])[0]["Config"]["Labels"][f"rpa.{name}"]
    return "'" + str(value) + "'"


@pytest.mark.slow
@pytest.mark.requirement("R4.8")
def test_every_image_holds_what_its_key_says(built: Workspace) -> None:
    """All of both environments."""
    for environment in ("production", "development"):
        for decision in built.plan(environment).decisions:
            assert verify(decision.contents, built.name(decision.contents.image.name, environment)) == []
