"""The manifest of an image: each input with its digest or value; its hash is the key.

| input | value |
|---|---|
| `file:PATH` | digest, ` x` behind it if executable; `-> TARGET` for a symbolic link |
| `lock:PATH:PACKAGE` | version and digest of the pinned hashes |
| `parent:IMAGE`, `base:NAME` | the parent's key; reference and image id |
| `arg:NAME`, `target`, `python`, `platform`, `format` | as declared |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ci.images import digests
from ci.images.model import KEY_LABEL, MANIFEST_LABEL, Change, Declaration, Entry, Existing, Image
from ci.images.slices import Package

ABSENT = "absent"  # stands for the image id of a base that is not here, where only a decision is asked for
_ORDER = ("format", "platform", "python", "target", "base", "file", "lock", "arg", "parent")


def make(
    image: Image,
    declaration: Declaration,
    *,
    entries: Iterable[Entry],
    locks: Mapping[str, tuple[Package, ...]],
    base_ids: Mapping[str, str],
    parent_keys: Mapping[str, str],
) -> dict[str, str]:
    """Every input of one image. `locks` has the slices by their path in the context; `entries` are all files."""
    made = {"format": digests.FORMAT, "python": declaration.python, "platform": declaration.platform}
    if image.target is not None:
        made["target"] = image.target
    made |= {f"arg:{name}": value for name, value in image.args.items()}
    made |= {f"base:{name}": f"{reference} {base_ids[reference]}" for name, reference in image.bases.items()}
    made |= {f"parent:{name}": parent_keys[name] for name in image.parents}
    for path, packages in locks.items():
        made |= {
            f"lock:{path}:{one.name}": f"{one.version} {digests.of_bytes(one.text().encode())}" for one in packages
        }
        if not packages:
            made[f"lock:{path}"] = "empty"
    made |= {f"file:{entry.path}": _value(entry) for entry in entries if entry.path not in locks}
    return dict(sorted(made.items()))


def _value(entry: Entry) -> str:
    if entry.link is not None:
        return f"-> {entry.link}"
    return f"{entry.digest} x" if entry.executable else entry.digest


def canonical(manifest: Mapping[str, str]) -> str:
    """The text that is hashed, and that stands in the image's label."""
    return json.dumps(dict(manifest), sort_keys=True, separators=(",", ":"))


def key(manifest: Mapping[str, str]) -> str:
    """64 hex digits."""
    return digests.of_manifest(canonical(manifest))


def of(existing: Existing) -> dict[str, str] | None:
    """The manifest that an image carries; None where it does not belong to the image's key, so says nothing."""
    try:
        loaded = json.loads(existing.labels.get(MANIFEST_LABEL, ""))
    except ValueError:
        return None
    if not isinstance(loaded, dict) or not all(isinstance(value, str) for value in loaded.values()):
        return None
    return loaded if key(loaded) == existing.labels.get(KEY_LABEL) else None


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """The inputs that differ: what everything rests on first, parents' keys last."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    names.sort(key=lambda name: (_ORDER.index(kind) if (kind := name.partition(":")[0]) in _ORDER else -1, name))
    return tuple(Change(input=name, before=before.get(name), after=after.get(name)) for name in names)
