"""Which of the base and service images are made, and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from ci.bootstrap.decide import choose
from ci.bootstrap.images import FOLDER, LABEL, SERVICES, keys
from ci.bootstrap.make import bake_file
from ci.bootstrap.rootfs import arguments
from ci.engine.sources import Source
from ci.errors import ToolError
from ci.workspace import ROOT

KEYS = keys()
CURRENT: dict[str, Mapping[str, str] | None] = {name: {LABEL: key} for name, key in KEYS.items()}
OFFICIAL: dict[str, Mapping[str, str] | None] = {name: {"maintainer": "somebody"} for name in KEYS}


def made(labels: Mapping[str, Mapping[str, str] | None], *names: str, force: bool = False) -> list[str]:
    return [choice.service.name for choice in choose(labels, KEYS, names=names, force=force) if choice.make]


@pytest.mark.requirement("R5.7")
def test_what_is_missing_is_made_parents_first() -> None:
    """On an empty engine everything, and nothing before what it is made from."""
    order = made({})
    assert sorted(order) == sorted(KEYS)
    assert order.index("debian") < order.index("python") < order.index("prefect")


@pytest.mark.requirement("R5.7")
def test_asking_for_one_brings_its_parents_and_nothing_else() -> None:
    """Prefect is made on the python image, which is made on the base."""
    assert made({}, "prefect") == ["debian", "python", "prefect"]
    assert made({**CURRENT, "prefect": None}, "prefect") == ["prefect"]


@pytest.mark.requirement("R5.7")
def test_current_images_are_left_alone_and_forced_ones_made_again() -> None:
    """Force means what was asked for, not the parents that are fine."""
    assert made(CURRENT) == []
    assert made(CURRENT, force=True) == [service.name for service in SERVICES]
    assert made(CURRENT, "prefect", force=True) == ["prefect"]


@pytest.mark.requirement("R5.7")
def test_an_official_image_is_never_replaced() -> None:
    """Whatever is asked: an image without the label came from a registry; with force the way out is named."""
    assert made(OFFICIAL) == []
    assert made(OFFICIAL, force=True) == []
    (choice,) = (one for one in choose(OFFICIAL, KEYS, names=["debian"], force=True))
    assert "docker image rm debian:trixie-slim" in choice.reason


@pytest.mark.requirement("R5.7")
def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """A slip of the pen makes nothing."""
    with pytest.raises(ToolError, match=r"no image postgress.*postgres"):
        made({}, "postgress")


@pytest.mark.requirement("R5.7")
def test_a_changed_definition_re_keys_the_image_and_its_children(tmp_path: Path) -> None:
    """A file's text, name or executable bit changes the key, of children too and of nobody else."""
    shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER)
    folder = tmp_path / FOLDER / "python"

    def changed() -> set[str]:
        now = keys(tmp_path)
        return {name for name in now if now[name] != KEYS[name]}

    assert changed() == set()
    (folder / "Dockerfile").write_text((folder / "Dockerfile").read_text() + "\n# other\n")
    assert changed() == {"python", "prefect"}
    labels: dict[str, Mapping[str, str] | None] = dict(CURRENT)
    again = [one for one in choose(labels, keys(tmp_path)) if one.make]
    assert {(one.service.name, one.reason) for one in again} == {
        ("python", "its definition changed"),
        ("prefect", "its definition changed"),
    }
    shutil.copy(ROOT / FOLDER / "python/Dockerfile", folder / "Dockerfile")
    (tmp_path / FOLDER / "prefect/entrypoint.sh").chmod(0o644)
    assert changed() == {"prefect"}


@pytest.mark.requirement("R5.7")
def test_the_bake_file_says_what_the_builder_needs(tmp_path: Path) -> None:
    """Names, keys and secrets; a parent of the same run is a target, any other is found by its name."""
    services = [service for service in SERVICES if service.name in ("python", "prefect", "haproxy")]
    plan = bake_file(services, KEYS, root=ROOT, secrets={"ca_bundle": tmp_path / "ca"}, prefix="trial/")
    assert plan["group"]["default"]["targets"] == ["haproxy", "prefect", "python"]
    prefect, python = plan["target"]["prefect"], plan["target"]["python"]
    assert prefect["contexts"] == {"python:3.13-slim-trixie": "target:python"}
    assert python["contexts"] == {}
    assert prefect["tags"] == ["trial/prefecthq/prefect:3.8.8-python3.13"]
    assert prefect["labels"][LABEL] == KEYS["prefect"]
    assert prefect["secret"] == [f"id=ca_bundle,src={tmp_path}/ca"]
    assert json.loads(json.dumps(plan)) == plan


@pytest.mark.requirement("R5.7")
def test_the_root_file_system_comes_from_the_machines_mirror(tmp_path: Path) -> None:
    """The mirror is the machine's, the keyring inside is Debian's, certificates come where the mirror needs them."""
    place = Source(uris=("https://mirror.example/d",), suites=("trixie",), components=("main",), signed_by="/k/archive")
    command = arguments([place], tmp_path, tmp_path / "root.tar")
    assert command[0] == "mmdebstrap"
    assert command[-1] == str(tmp_path / "machine.sources")
    assert "--include=ca-certificates" in command
    assert "Signed-By: /k/archive" in (tmp_path / "machine.sources").read_text()
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in (tmp_path / "debian.sources").read_text()
    plain = Source(uris=("http://mirror.example/d",), suites=("trixie",), components=("main",))
    assert "--include=ca-certificates" not in arguments([plain], tmp_path, tmp_path / "root.tar")


@pytest.mark.requirement("R5.7")
def test_every_image_has_its_folder_and_every_lock_its_hashes() -> None:
    """A folder for each; Prefect's lock pins and hashes everything, and names no index."""
    for service in SERVICES:
        assert any((ROOT / FOLDER / service.name).iterdir())
    lock = (ROOT / FOLDER / "prefect/requirements.txt").read_text()
    pinned = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert {"prefect==3.8.8 \\", "fastapi==0.139.0 \\"} <= set(pinned)
    assert all("==" in line and line.endswith("\\") for line in pinned)
    assert "://" not in lock
