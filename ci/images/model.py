"""The values that pass between the parts: declared images, their contents, what exists, what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

KEY_LABEL = "rpa.key"
MANIFEST_LABEL = "rpa.manifest"  # canonical JSON of Contents.manifest
IMAGE_LABEL = "rpa.image"  # the declared name, whatever the tag says


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Files of the workspace that go into a context.

    `source` is the folder they come from, `to` their folder in the context, `at` where the Dockerfile puts that folder
    in the image (None: nowhere, it is only used while building). `files` are globs relative to `source`; `entry` are
    modules whose import closure inside `source` is added.
    """

    source: str
    to: str
    at: str | None
    files: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in one environment, as docker/images.toml declares it."""

    name: str
    title: str
    environment: str
    dockerfile: str
    trees: tuple[Tree, ...]
    target: str | None = None  # stage of the Dockerfile
    parents: tuple[str, ...] = ()  # our own images, by the names that the Dockerfile uses in FROM
    bases: Mapping[str, str] = field(default_factory=dict)  # name in the Dockerfile -> external image reference
    locks: Mapping[str, str] = field(default_factory=dict)  # path in the context -> lock file; its slice goes in
    flows: tuple[str, ...] = ()  # entry points of packages/flows that the image registers
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """docker/images.toml for one environment; `images` in build order, parents first."""

    environment: str
    python: str  # of the images, "3.13": decides markers in the locks
    platform: str  # "linux/amd64"
    images: Mapping[str, Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a build context: copied from `source`, or written from `content`, or a symbolic link."""

    path: str  # in the context, POSIX, relative
    digest: str  # of the bytes (or of the link's target)
    executable: bool = False  # the only part of a mode that counts; contexts hold 0644 and 0755
    source: Path | None = None
    content: bytes | None = None
    link: str | None = None
    at: str | None = None  # absolute path in the built image, None where it does not stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that goes into one image."""

    image: Image
    entries: tuple[Entry, ...]  # sorted by path, the Dockerfile among them as "Dockerfile"
    manifest: Mapping[str, str]  # input -> digest or value: "file:core/rpa_core/x.py", "arg:FLOW", "parent:rpa-base"
    key: str  # 64 hex digits
    notes: tuple[str, ...] = ()  # what a person should know: a dynamic import that widened the closure


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """An image that the engine has."""

    id: str  # "sha256:..."
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    created: int = 0  # seconds since the epoch


class Action(StrEnum):
    """What an image needs."""

    NOTHING = "current"
    TAG = "tag"  # an image with the key exists, the tag points elsewhere
    BUILD = "build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One input that differs; `before` None: new, `after` None: gone."""

    input: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done about one image, and why."""

    contents: Contents
    action: Action
    reason: str  # one line for a person: "packages/core/src/rpa_core/errors.py changed"
    changes: tuple[Change, ...] = ()  # against the image that the tag names now; parents' keys last
    existing: str | None = None  # id of the image with the key, where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decisions for the images that were asked for and their parents, in build order."""

    declaration: Declaration
    decisions: tuple[Decision, ...]

    def of(self, action: Action) -> tuple[Decision, ...]:
        return tuple(one for one in self.decisions if one.action is action)


def tag(prefix: str, image: str, environment: str) -> str:
    """The moving tag: "rpa-flow1:development". `prefix` ("registry.example/team/") comes from RPA_IMAGE_PREFIX."""
    return f"{prefix}{image}:{environment}"


def key_tag(prefix: str, image: str, key: str) -> str:
    """The tag that stays: "rpa-flow1:k-0123456789ab"."""
    return f"{prefix}{image}:k-{key[:12]}"
