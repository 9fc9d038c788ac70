"""An input of a manifest, in the words of the person who edits the workspace."""

from __future__ import annotations

from ci.images.declare import FILE, FLOWS
from ci.images.manifest import ABSENT
from ci.images.model import Change, Image


def workspace_path(image: Image, context_path: str) -> str:
    """Where a file of the build context comes from; for one that is gone, where it came from."""
    if context_path == "Dockerfile":
        return image.dockerfile
    if context_path in image.locks:
        return image.locks[context_path]
    for tree in sorted(image.trees, key=lambda tree: -len(tree.to)):
        if context_path.startswith(f"{tree.to}/"):
            inner = context_path.removeprefix(f"{tree.to}/")
            if image.flows and tree.source == f"{FLOWS}/src" and inner.partition("/")[0].endswith(".dist-info"):
                return f"{FLOWS}/pyproject.toml"
            return f"{tree.source}/{inner}"
    return context_path


def sentence(image: Image, change: Change) -> str:
    """What happened to one input: "packages/core/src/rpa_core/errors.py changed"."""
    kind, _, name = change.input.partition(":")
    if kind == "file":
        return _file(workspace_path(image, name), change)
    if kind == "lock":
        path, _, package = name.partition(":")
        was, now = (text.split(" ")[0] if text else None for text in (change.before, change.after))
        what = f"{was} -> {now}" if was != now else f"{now} with other hashes"
        if was is None or now is None:
            what = f"{now} is new" if was is None else f"{was} is gone"
        return f"{workspace_path(image, path)}: {package} {what}"
    if kind == "parent":
        if change.before and change.after:
            return f"its parent {name} changed"
        return f"{name} is {'no longer' if change.after is None else 'now'} its parent"
    if kind == "base":
        return _base(name, change)
    place = {"arg": f"build argument {name}", "format": "the format of manifests"}.get(kind, kind)
    if change.before is None or change.after is None:
        return f"{place} {'is new' if change.before is None else 'is gone'} ({change.after or change.before}) in {FILE}"
    return f"{place} is {change.after}, was {change.before}"


def _file(path: str, change: Change) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        return f"{path} is {'new' if before is None else 'gone'}"
    if after.startswith("-> ") and before.startswith("-> "):
        return f"{path} links to {after[3:]}, was {before[3:]}"
    if after.startswith("-> ") or before.startswith("-> "):
        return f"{path} is {'a' if after.startswith('-> ') else 'no longer a'} symbolic link"
    if after.removesuffix(" x") == before.removesuffix(" x"):
        return f"{path} is {'now' if after.endswith(' x') else 'no longer'} executable"
    return f"{path} changed"


def _base(name: str, change: Change) -> str:
    was, now = ((text or " ").partition(" ") for text in (change.before, change.after))
    if now[2] == ABSENT:
        return f"its base {now[0]} is not here (docker pull {now[0]}, or invoke build.bootstrap)"
    if change.before is None or change.after is None:
        return f"base {name} is {'new' if change.before is None else 'gone'}"
    return f"its base {now[0]} is another image now" if was[0] == now[0] else f"its base is {now[0]}, was {was[0]}"
