"""Removes images of ours beyond the newest few of each image and environment, and never one that is in use."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ci import docker
from ci.errors import ToolError
from ci.images import manifest
from ci.images.labels import ENVIRONMENT_LABEL, PREFIX_LABEL
from ci.images.model import IMAGE_LABEL, KEY_LABEL, Existing
from ci.images.verify import LABEL as VERIFY_LABEL
from ci.workspace import ROOT

_UNFINISHED_S = 3600  # an image without a tag may be one that a build is about to tag
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One image, and the tags that it loses; without other tags it is gone, together with its own layers."""

    id: str
    image: str
    environment: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """`freed_bytes` is what only these images held, at least; layers that several of them share come on top."""

    removed: tuple[Removal, ...]
    freed_bytes: int
    kept: tuple[str, ...]  # lines: what the engine refused to remove, and why


def choose(
    existing: Sequence[Existing], *, used: Collection[str], keep: int, prefix: str, now: float
) -> tuple[Removal, ...]:
    """What to remove, children before their parents.

    `used` are the ids of images that containers are made of; `keep` is how many of each image and environment stay;
    `now` in seconds since the epoch. Only images with `prefix` are looked at.
    """
    if keep < 0:
        raise ToolError(f"--keep {keep}: give how many of each image should stay, 0 or more")
    ours = [one for one in existing if _is_ours(one, prefix)]
    kept = {one.id for one in existing if one.id in used or any(not _is_staying(tag) for tag in one.tags)}
    groups = dict[tuple[str, str], list[Existing]]()
    for one in ours:
        if one.tags:
            groups.setdefault((one.labels[IMAGE_LABEL], one.labels.get(ENVIRONMENT_LABEL, "")), []).append(one)
        elif now - one.created < _UNFINISHED_S:
            kept.add(one.id)
    for group in groups.values():
        kept.update(one.id for one in sorted(group, key=lambda one: (one.created, one.id), reverse=True)[:keep])
    _add_parents(kept, existing)
    removed = [one for one in ours if one.id not in kept]
    removed.sort(key=lambda one: (_depth(one, existing), one.labels[IMAGE_LABEL]), reverse=True)
    return tuple(
        Removal(
            id=one.id,
            image=one.labels[IMAGE_LABEL],
            environment=one.labels.get(ENVIRONMENT_LABEL, ""),
            tags=tuple(tag for tag in one.tags if tag.startswith(f"{prefix}{one.labels[IMAGE_LABEL]}:")),
        )
        for one in removed
    )


def prune(keep: int, *, prefix: str, dry_run: bool = False, root: Path = ROOT) -> Pruned:
    """Remove them, or with `dry_run` only say which. ToolError where no engine answers."""
    containers = docker.containers()
    forgotten = [one for one in containers if VERIFY_LABEL in one.labels and time.time() - one.created > _UNFINISHED_S]
    used = {one.image_id for one in containers if one not in forgotten}
    chosen = choose(docker.images(), used=used, keep=keep, prefix=prefix, now=time.time())
    sizes = _unique_bytes() if chosen else {}
    if not dry_run:
        for container in forgotten:  # a look into an image that was killed
            docker.run("rm", "--force", "--volumes", container.id, check=False, timeout_s=60)
    refused, removed = list[str](), list[Removal]()
    for one in chosen:
        if not dry_run:
            done = docker.run("image", "rm", *(one.tags or (one.id,)), check=False, timeout_s=120)
            if done.returncode:
                refused.append(f"{one.image} ({one.id[7:19]}): {done.stderr.strip()}")
                continue
        removed.append(one)
    return Pruned(removed=tuple(removed), freed_bytes=sum(sizes.get(one.id, 0) for one in removed), kept=tuple(refused))


def text(done: Pruned, *, dry_run: bool) -> str:
    """For a person: each image, then how much."""
    would = "would be removed" if dry_run else "removed"
    lines = [f"{one.image}:{one.environment} {one.id[7:19]} {' '.join(one.tags) or '(no tag)'}" for one in done.removed]
    lines += [f"not removed: {line}" for line in done.kept]
    megabytes = done.freed_bytes / 10**6
    return "\n".join([*lines, f"{len(done.removed)} images {would}, at least {megabytes:.1f} MB"])


def _is_ours(one: Existing, prefix: str) -> bool:
    name = one.labels.get(IMAGE_LABEL)
    if name is None or KEY_LABEL not in one.labels:
        return False
    if not one.tags:
        return one.labels.get(PREFIX_LABEL, "") == prefix
    return any(tag.startswith(f"{prefix}{name}:") for tag in one.tags)


def _is_staying(tag: str) -> bool:
    return tag.rpartition(":")[2].startswith("k-")


def _parent_keys(one: Existing) -> set[str]:
    inputs = (manifest.of(one) or {}).items()
    return {value for name, value in inputs if name.startswith("parent:")}


def _add_parents(kept: set[str], existing: Sequence[Existing]) -> None:
    """What a kept image stands on is kept, all the way down."""
    while True:
        wanted = {key for one in existing if one.id in kept for key in _parent_keys(one)}
        more = {one.id for one in existing if one.labels.get(KEY_LABEL) in wanted} - kept
        if not more:
            return
        kept |= more


def _depth(one: Existing, existing: Sequence[Existing]) -> int:
    """How many images of ours it stands on."""
    parents = [other for other in existing if other.labels.get(KEY_LABEL) in _parent_keys(one)]
    return 1 + max((_depth(parent, existing) for parent in parents), default=0)


def _unique_bytes() -> dict[str, int]:
    """Image id -> bytes that no other image has."""
    listed = docker.run("system", "df", "--verbose", "--format", "{{json .Images}}", timeout_s=120).stdout
    return {one["ID"]: _bytes(one["UniqueSize"]) for one in json.loads(listed or "[]") or ()}


def _bytes(text: str) -> int:
    """ "301kB" -> 301000; 0 where the engine does not say."""
    number = text.rstrip("kMGTB")
    unit = text[len(number) :]
    return round(float(number) * _UNITS[unit]) if unit in _UNITS and number.replace(".", "", 1).isdigit() else 0
