"""Which files an image has while one of them cannot be read.

What a flow imports decides what its image holds. A file saved half-way cannot be parsed, so its imports are unknown for
as long as that lasts; to take files out of a running container for it, and to put them back a moment later, would be
noise. The image keeps the files it had, with their newest contents; a build goes by what is there.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ci.develop.overlay import value
from ci.images import digests
from ci.images.model import Contents, Entry


def parse_error(path: Path) -> tuple[int, str] | None:
    """(line, what is wrong) of a Python file that this Python cannot parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(path.read_bytes())
    except OSError:
        return None
    except (SyntaxError, ValueError) as error:
        return getattr(error, "lineno", None) or 1, str(getattr(error, "msg", None) or error)
    return None


def steady(before: Mapping[str, Contents], now: Mapping[str, Contents]) -> dict[str, Contents]:
    """`now`, where images whose imports cannot be read have the files they had `before`, as far as those exist."""
    return {name: _steady(before[name], one) if name in before else one for name, one in now.items()}


def _steady(before: Contents, now: Contents) -> Contents:
    if not any(tree.entry for tree in now.image.trees):
        return now
    was, is_ = ({entry.path: entry for entry in one.entries} for one in (before, now))
    if was.keys() == is_.keys() or not any(map(_broken, now.entries)):
        return now
    found = {path: entry for path in was if (entry := is_.get(path) or _again(was[path]))}
    kept = {
        given: value for given, value in now.manifest.items() if not given.startswith("file:") or given[5:] in found
    }
    missing = {f"file:{path}": value(entry) for path, entry in found.items() if path not in is_}
    return replace(now, entries=tuple(found[path] for path in sorted(found)), manifest={**kept, **missing})


def _broken(entry: Entry) -> bool:
    return entry.source is not None and entry.source.suffix == ".py" and parse_error(entry.source) is not None


def _again(entry: Entry) -> Entry | None:
    """An entry of before as it is now; None where its file has gone."""
    if entry.source is None:
        return entry if entry.link is None else None
    try:
        digest = digests.of_bytes(entry.source.read_bytes())
        return replace(entry, digest=digest, executable=bool(entry.source.stat().st_mode & 0o100))
    except OSError:
        return None
