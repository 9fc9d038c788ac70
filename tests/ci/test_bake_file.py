"""The bake file, the secrets in it, and the labels of an image."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ci.images import bakefile, labels, manifest
from ci.images.model import Contents, Image
from ci.workspace import ROOT


def contents(name: str, *, parents: tuple[Contents, ...] = (), args: dict[str, str] | None = None) -> Contents:
    bases = {} if parents else {"python": "python:3.13"}
    image = Image(
        name=name,
        title=f"the {name}",
        environment="production",
        dockerfile="Dockerfile",
        trees=(),
        target=None if parents else "production",
        parents=tuple(one.image.name for one in parents),
        bases=bases,
        args=args or {},
    )
    inputs = {f"parent:{one.image.name}": one.key for one in parents} | {"name": name}
    inputs |= {f"base:{one}": f"{reference} sha256:ba5e" for one, reference in bases.items()}
    return Contents(image=image, entries=(), manifest=inputs, key=manifest.key(inputs))


def composed(*building: Contents, every: tuple[Contents, ...] = (), secrets: dict[str, Path] | None = None) -> Any:
    text = bakefile.compose(
        building,
        platform="linux/amd64",
        prefix="team/",
        folders={one.image.name: Path("/contexts") / one.image.name for one in building},
        keys={one.image.name: one.key for one in (*building, *every)},
        ids={"python:3.13": "sha256:ba5e"},
        provenance={},
        secret_files=secrets or {},
    )
    return json.loads(text)["target"]


@pytest.mark.requirement("R4.2", "R4.3")
def test_a_parent_is_the_target_of_this_run_or_the_image_with_its_key() -> None:
    """Never a moving tag, which may name something else by now."""
    base = contents("base")
    flow = contents("flow", parents=(base,))
    together = composed(base, flow)
    assert together["flow"]["contexts"] == {"base": "target:base"}
    assert together["base"]["contexts"] == {"python": "docker-image://python:3.13"}
    assert together["base"]["target"] == "production"
    assert "target" not in together["flow"]
    alone = composed(flow, every=(base,))
    assert list(alone) == ["flow"]
    assert alone["flow"]["contexts"] == {"base": f"docker-image://team/base:k-{base.key[:12]}"}


@pytest.mark.requirement("R4.4")
def test_no_tag_is_put_by_the_builder() -> None:
    """Tags come after the look into the image."""
    assert all(target["tags"] == [] for target in composed(contents("base")).values())


@pytest.mark.requirement("R4.4")
def test_values_are_no_expressions() -> None:
    """`${` and `%{` begin one in a bake file."""
    target = composed(contents("base", args={"A": "${HOME} %{x} $y"}))["base"]
    assert target["args"] == {"A": "$${HOME} %%{x} $y"}


@pytest.mark.requirement("R4.2", "R7.2")
def test_secrets_are_files_that_no_other_part_names(tmp_path: Path) -> None:
    """A build argument or label would stand in the image."""
    bundle = tmp_path / "ca.crt"
    bundle.write_text("ca")
    target = composed(contents("base"), secrets={"ca_bundle": bundle})["base"]
    assert target["secret"] == [f"id=ca_bundle,src={bundle}"]
    assert str(bundle) not in json.dumps({name: value for name, value in target.items() if name != "secret"})


@pytest.mark.requirement("R4.1")
def test_labels_say_what_an_image_is_and_stands_on() -> None:
    """The manifest's label is the text that the key is the hash of."""
    base = contents("base")
    flow = composed(base, contents("flow", parents=(base,)))["flow"]["labels"]
    assert manifest.key(json.loads(flow["rpa.manifest"])) == flow["rpa.key"]
    assert (flow["rpa.image"], flow["rpa.environment"]) == ("flow", "production")
    assert flow["org.opencontainers.image.base.name"] == f"team/base:k-{base.key[:12]}"
    assert flow["org.opencontainers.image.description"] == "the flow"
    assert composed(base)["base"]["labels"]["org.opencontainers.image.base.digest"] == "sha256:ba5e"


@pytest.mark.requirement("R4.1")
def test_provenance_names_the_commit_and_whether_the_tree_differs(tmp_path: Path) -> None:
    """Without git there is no revision; a password in the remote's address stays out."""
    (tmp_path / "packages" / "core").mkdir(parents=True)
    for name in ("pyproject.toml", "packages/core/pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    oci = "org.opencontainers.image"
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    plain = labels.provenance(tmp_path, now=moment)
    assert f"{oci}.revision" not in plain
    assert (plain[f"{oci}.created"], plain[f"{oci}.licenses"]) == ("2026-01-02T03:04:05Z", "MIT")

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("remote", "add", "origin", "https://someone:secret@example.org/team/rpa.git")
    clean = labels.provenance(tmp_path)
    assert clean[f"{oci}.revision"] == git("rev-parse", "HEAD")
    assert clean[f"{oci}.source"] == "https://example.org/team/rpa.git"
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes() + b"\n")
    assert labels.provenance(tmp_path)[f"{oci}.revision"] == f"{clean[f'{oci}.revision']}-dirty"
