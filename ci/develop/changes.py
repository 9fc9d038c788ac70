"""What changed between two looks at the workspace, by content, and what that means for the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ci.images import manifest
from ci.images.declare import FILE
from ci.images.model import Change, Declaration, Image
from ci.images.origins import sentence, workspace_path

Manifests = Mapping[str, Mapping[str, str]]  # image -> input -> digest or value
_FILES = ("file", "lock")


class Effect(StrEnum):
    """What a change asks for, from the least to the most."""

    NOTHING = "nothing"
    SYNC = "sync"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file, or one input of an image that is no file ("arg:FLOW")."""

    path: str  # in the workspace, POSIX
    kind: str  # created, edited, deleted, renamed; joined or left an image, because of what others import
    effect: Effect
    images: tuple[str, ...] = ()  # that contain it, in build order
    before: str | None = None  # the old path of a renamed file
    reason: str = ""  # why nothing, why a rebuild


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """`files` by path; `missing` are images that do not exist at all."""

    files: tuple[FileChange, ...] = ()
    missing: tuple[str, ...] = ()

    def of(self, effect: Effect) -> tuple[FileChange, ...]:
        return tuple(one for one in self.files if one.effect is effect)

    @property
    def rebuild(self) -> tuple[str, ...]:
        """Images whose environment changed, or that are missing."""
        return tuple(dict.fromkeys([*self.missing, *(name for one in self.of(Effect.REBUILD) for name in one.images)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The workspace at one moment. `files`: path -> digest of every file that could be committed; None: not looked."""

    files: Mapping[str, str] | None
    manifests: Manifests


def compare(before: Look, now: Look, declaration: Declaration) -> Changes:
    """What differs. Where `before` has no files (it was read from existing images), the images' inputs decide alone."""
    touched = dict[str, list[tuple[Image, Change]]]()
    missing = tuple(name for name in now.manifests if name not in before.manifests)
    for name in [name for name in now.manifests if name not in missing]:
        image = declaration.images[name]
        for change in manifest.differences(before.manifests[name], now.manifests[name]):
            if not change.input.startswith("parent:"):  # the parent's own change is in the list
                touched.setdefault(_origin(image, change.input), []).append((image, change))
    was, is_ = before.files or {}, now.files or {}
    found = [_of_images(path, changes, was, is_) for path, changes in touched.items()]
    if before.files is not None:
        inputs = _inputs(before.manifests, declaration) | _inputs(now.manifests, declaration)
        others = sorted({**was, **is_}.keys() - touched.keys())
        found += [_of_none(path, was, is_, inputs) for path in others if was.get(path) != is_.get(path)]
    renamed = _with_renames(found, was, is_)
    return Changes(files=tuple(sorted(renamed, key=lambda one: one.path)), missing=missing)


def snapshot(root: Path, paths: Iterable[Path], known: Mapping[str, str]) -> dict[str, str]:
    """`known`, with the files of `paths` looked at again; one that has gone takes all files below it along."""
    found = dict(known)
    for path in paths:
        name = path.relative_to(root).as_posix()
        if (digest := digest_of(path)) is not None:
            found[name] = digest
            continue
        for gone in [one for one in found if one == name or one.startswith(f"{name}/")]:
            if digest_of(root / gone) is None:
                del found[gone]
    return found


def digest_of(path: Path) -> str | None:
    """Of a file's content and whether it can be executed, or of a link's target; None where there is no file."""
    try:
        if path.is_symlink():
            return f"-> {path.readlink()}"
        executable = " x" if path.stat().st_mode & 0o100 else ""
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() + executable
    except (OSError, ValueError):
        return None


def _origin(image: Image, given: str) -> str:
    """The file of the workspace behind an input; what is declared has images.toml."""
    kind, _, name = given.partition(":")
    if kind not in _FILES:
        return given if kind == "base" else FILE
    return workspace_path(image, name.partition(":")[0] if kind == "lock" else name)


def _inputs(manifests: Manifests, declaration: Declaration) -> set[str]:
    known = {name: one for name, one in manifests.items() if name in declaration.images}
    return {_origin(declaration.images[name], given) for name, one in known.items() for given in one}


def _effect(image: Image, change: Change) -> Effect:
    """A file that stays in the image at a known place can be copied there; all else is environment."""
    kind, _, context = change.input.partition(":")
    placed = kind == "file" and any(tree.at and context.startswith(f"{tree.to}/") for tree in image.trees)
    return Effect.SYNC if placed else Effect.REBUILD


def _strongest(effects: Iterable[Effect]) -> Effect:
    return max(effects, key=list(Effect).index)


def _of_images(
    path: str, changes: list[tuple[Image, Change]], was: Mapping[str, str], is_: Mapping[str, str]
) -> FileChange:
    effect = _strongest(_effect(image, change) for image, change in changes)
    came, went = (all(getattr(change, end) is None for _, change in changes) for end in ("before", "after"))
    kind = "created" if came else "deleted" if went else "edited"
    if path in was and path in is_:
        kind = "edited" if was[path] != is_[path] else "joined" if came else "left" if went else "edited"
    reason = sentence(*changes[0]) if effect is Effect.REBUILD else ""
    images = tuple(dict.fromkeys(image.name for image, _ in changes))
    return FileChange(path=path, kind=kind, effect=effect, images=images, reason=reason)


def _of_none(path: str, was: Mapping[str, str], is_: Mapping[str, str], inputs: set[str]) -> FileChange:
    kind = "created" if path not in was else "deleted" if path not in is_ else "edited"
    reason = "no image takes anything from what changed in it" if path in inputs else "no image contains it"
    return FileChange(path=path, kind=kind, effect=Effect.NOTHING, reason=reason)


def _with_renames(found: list[FileChange], was: Mapping[str, str], is_: Mapping[str, str]) -> list[FileChange]:
    """A deleted and a created file with one content are one that was renamed; the most alike names belong together."""
    kept = {one.path: one for one in found}
    deleted = [one for one in found if one.kind == "deleted" and one.path in was]
    for new in [one for one in found if one.kind == "created" and one.path in is_]:
        alike = [old for old in deleted if was[old.path] == is_[new.path]]
        if not alike:
            continue
        old = max(alike, key=lambda one: _alikeness(one.path, new.path))
        deleted.remove(old)
        del kept[old.path]
        kept[new.path] = replace(
            new,
            kind="renamed",
            before=old.path,
            effect=_strongest([old.effect, new.effect]),
            images=tuple(dict.fromkeys([*old.images, *new.images])),
            reason=new.reason if old.effect is Effect.NOTHING else old.reason,
        )
    return list(kept.values())


def _alikeness(one: str, other: str) -> tuple[int, int, str]:
    """Parts that two paths share at their ends, then at their beginnings."""
    left, right = one.split("/"), other.split("/")
    ends = _shared(left[::-1], right[::-1])
    return ends, _shared(left, right), one


def _shared(left: list[str], right: list[str]) -> int:
    pairs = zip(left, right, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
