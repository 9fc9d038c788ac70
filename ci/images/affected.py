"""Which images a file of the workspace is in: what the development tools ask after an edit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ci.images.declare import FLOWS
from ci.images.model import Contents
from ci.images.origins import workspace_path
from ci.workspace import ROOT


def affected(
    paths: Iterable[str | Path], *, contents: Mapping[str, Contents], root: Path = ROOT
) -> dict[str, list[str]]:
    """Each path, relative to `root`, with the images that contain it, themselves or in a parent; in build order.

    A lock and a Dockerfile count as contained. A file that was deleted is in the `contents` of before: see `moved`.
    """
    holders = _holders(contents)
    names = [_relative(path, root) for path in paths]
    return {name: _with_children(holders.get(name, set()), contents) for name in names}


def moved(before: Mapping[str, Contents], after: Mapping[str, Contents]) -> dict[str, list[str]]:
    """Files of the workspace that came, went or changed between two looks, with the images whose inputs they are."""
    found = dict[str, set[str]]()
    for name in {**before, **after}:
        was = dict(before[name].manifest) if name in before else {}
        now = dict(after[name].manifest) if name in after else {}
        image = (after.get(name) or before[name]).image
        for given in was.keys() | now.keys():
            kind, _, path = given.partition(":")
            if was.get(given) != now.get(given) and kind in ("file", "lock"):
                found.setdefault(workspace_path(image, path.partition(":")[0] if kind == "lock" else path), set()).add(
                    name
                )
    order = {**before, **after}
    return {path: _with_children(found[path], order) for path in sorted(found)}


def _holders(contents: Mapping[str, Contents]) -> dict[str, set[str]]:
    found = dict[str, set[str]]()
    for name, one in contents.items():
        paths = {workspace_path(one.image, entry.path) for entry in one.entries}
        paths |= {f"{FLOWS}/pyproject.toml"} if one.image.flows else set()
        for path in paths:
            found.setdefault(path, set()).add(name)
    return found


def _with_children(names: set[str], contents: Mapping[str, Contents]) -> list[str]:
    taken = set[str](names)
    for name, one in contents.items():  # parents come first
        if taken.intersection(one.image.parents):
            taken.add(name)
    return [name for name in contents if name in taken]


def _relative(path: str | Path, root: Path) -> str:
    """Without following links: a link is a file of its own."""
    return Path(os.path.relpath(root / path, root)).as_posix()
