"""What the tests of the images work with: a copy of the workspace, small images of their own, what an image says."""

from __future__ import annotations

import io
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci import docker
from ci.images import bake, command, digests, manifest
from ci.images.labels import PREFIX_LABEL
from ci.images.model import Action, Contents, Decision, Declaration, Entry, Image, Plan, Tree, tag
from ci.workspace import ROOT, files

_PARTS = ("packages/core/", "packages/flows/", "docker/base/", "docker/flow/", "docker/images.toml", "requirements/")
CORE_FILE = "packages/core/src/rpa_core/errors.py"


@dataclass(frozen=True)
class Workspace:
    """A copy of the workspace, and the prefix of its images."""

    root: Path
    prefix: str

    def build(
        self, environment: str = "production", images: tuple[str, ...] = (), **options: Any
    ) -> tuple[bake.BuildReport, str]:
        """What was done, and what was shown to a person."""
        shown = io.StringIO()
        plan = self.plan(environment, images)
        return bake.build(plan, prefix=self.prefix, root=self.root, out=shown, **options), shown.getvalue()

    def plan(self, environment: str = "production", images: tuple[str, ...] = ()) -> Plan:
        return command.decide(environment, images, root=self.root)[1]

    def edit(self, path: str, text: str) -> None:
        """Append a line to a file."""
        with (self.root / path).open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")

    def name(self, image: str, environment: str = "production") -> str:
        return tag(self.prefix, image, environment)


def copied(root: Path, prefix: str) -> Workspace:
    for file in [ROOT / "pyproject.toml", *files()]:
        name = file.relative_to(ROOT).as_posix()
        if name == "pyproject.toml" or name.startswith(_PARTS):
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target, follow_symlinks=False)
    workspace = Workspace(root, prefix)
    # Its own keys: the engine may have images of the same sources, and those would be taken.
    workspace.edit(CORE_FILE, f"# {uuid.uuid4().hex}")
    return workspace


def remove_images(prefix: str) -> None:
    """Every tag with `prefix`, and the images without a tag that were built with it."""
    tags = [name for one in docker.images() for name in one.tags if name.startswith(prefix)]
    if tags:
        docker.run("image", "rm", "--force", *tags, check=False)
    left = [one.id for one in docker.images() if not one.tags and one.labels.get(PREFIX_LABEL) == prefix]
    if left:
        docker.run("image", "rm", "--force", *left, check=False)


@dataclass(frozen=True)
class Small:
    """Images made of a few files and a Dockerfile of the test's own: `FROM scratch` where nothing else is said."""

    root: Path
    prefix: str
    platform: str = "linux/amd64"

    def contents(
        self,
        name: str,
        data: dict[str, bytes] | None = None,
        *,
        dockerfile: str = "FROM scratch\nCOPY data/ /data/\n",
        sources: dict[str, Path] | None = None,
        parents: tuple[Contents, ...] = (),
        more: dict[str, str] | None = None,
    ) -> Contents:
        """An image with `data` (path -> bytes) or `sources` (path -> file) in /data."""
        entries = [_entry("Dockerfile", dockerfile.encode(), at=None)]
        entries += [_entry(f"data/{path}", content, at=f"/data/{path}") for path, content in (data or {}).items()]
        for path, source in (sources or {}).items():
            digest = digests.of_bytes(source.read_bytes())
            entries.append(Entry(path=f"data/{path}", digest=digest, source=source, at=f"/data/{path}"))
        inputs = {f"file:{one.path}": one.digest for one in entries} | (more or {})
        inputs |= {f"parent:{one.image.name}": one.key for one in parents}
        trees = (Tree(source="data", to="data", at="/data", files=("**",)),)
        image = Image(
            name=name,
            title=f"a test's {name}",
            environment="test",
            dockerfile="Dockerfile",
            trees=trees,
            parents=tuple(one.image.name for one in parents),
        )
        ordered = tuple(sorted(entries, key=lambda one: one.path))
        return Contents(image=image, entries=ordered, manifest=inputs, key=manifest.key(inputs))

    def plan(self, *every: Contents, existing: dict[str, str] | None = None) -> Plan:
        """Build them; those with an `existing` id are current."""
        known = existing or {}
        declaration = Declaration(
            environment="test",
            python="3.13",
            platform=self.platform,
            images={one.image.name: one.image for one in every},
        )
        decisions = tuple(
            Decision(
                contents=one,
                action=Action.NOTHING if one.image.name in known else Action.BUILD,
                reason="a test",
                existing=known.get(one.image.name),
            )
            for one in every
        )
        return Plan(declaration=declaration, decisions=decisions)

    def build(self, *every: Contents, existing: dict[str, str] | None = None, **options: Any) -> bake.BuildReport:
        plan = self.plan(*every, existing=existing)
        return bake.build(plan, prefix=self.prefix, root=self.root, out=io.StringIO(), **options)

    def untagged(self, contents: Contents) -> list[str]:
        """Ids of images with its key and no tag."""
        found = docker.images()
        return [one.id for one in found if one.labels.get("rpa.key") == contents.key and not one.tags]


def _entry(path: str, content: bytes, *, at: str | None) -> Entry:
    return Entry(path=path, digest=digests.of_bytes(content), content=content, at=at)


def config(image: str) -> dict[str, Any]:
    """An image's configuration."""
    found: dict[str, Any] = docker.inspect("image", [image])[0]["Config"]
    return found


def layers(image: str) -> list[str]:
    found: list[str] = docker.inspect("image", [image])[0]["RootFS"]["Layers"]
    return found


def size_bytes(image: str) -> int:
    return int(docker.inspect("image", [image])[0]["Size"])
