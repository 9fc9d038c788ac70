"""The file for `docker buildx bake`: a target for each image to build, with its context, parents, tags and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.build_secrets import proxy_arguments
from ci.images import labels
from ci.images.model import Contents, key_tag


def compose(
    building: Sequence[Contents],
    *,
    platform: str,
    prefix: str,
    folders: Mapping[str, Path],
    keys: Mapping[str, str],
    ids: Mapping[str, str],
    provenance: Mapping[str, str],
    secret_files: Mapping[str, Path],
) -> str:
    """The bake file as JSON.

    building    the images to build, parents first
    folders     image -> its context
    keys        every image of the plan -> its key: a parent that is not built now is taken by its key tag
    ids         external reference or image -> id, where known, for the labels
    """
    names = {contents.image.name for contents in building}
    targets = {
        contents.image.name: _target(
            contents,
            platform=platform,
            folder=folders[contents.image.name],
            contexts=_contexts(contents, names, keys, prefix),
            labels=labels.labels(contents, prefix=prefix, base=_base(contents, ids, prefix), provenance=provenance),
            secret_files=secret_files,
        )
        for contents in building
    }
    return json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}, indent=1)


def _target(
    contents: Contents,
    *,
    platform: str,
    folder: Path,
    contexts: Mapping[str, str],
    labels: Mapping[str, str],
    secret_files: Mapping[str, Path],
) -> dict[str, Any]:
    image = contents.image
    found: dict[str, Any] = {
        "context": str(folder),
        "dockerfile": "Dockerfile",
        "contexts": dict(contexts),
        "args": {name: _literal(value) for name, value in (proxy_arguments() | dict(image.args)).items()},
        "platforms": [platform],
        "tags": [],  # they follow when the image has been looked into
        "secret": [f"id={name},src={path}" for name, path in secret_files.items()],
        "output": ["type=docker"],
        "labels": {name: _literal(value) for name, value in labels.items()},
    }
    if image.target:
        found["target"] = image.target
    return found


def _contexts(contents: Contents, building: set[str], keys: Mapping[str, str], prefix: str) -> dict[str, str]:
    found = {name: f"docker-image://{reference}" for name, reference in contents.image.bases.items()}
    for parent in contents.image.parents:
        built = parent in building
        found[parent] = f"target:{parent}" if built else f"docker-image://{key_tag(prefix, parent, keys[parent])}"
    return found


def _base(contents: Contents, ids: Mapping[str, str], prefix: str) -> tuple[str, str] | None:
    """What the image is FROM, by name and by what identifies it: an image's id, a parent's key."""
    for parent in contents.image.parents:
        key = contents.manifest[f"parent:{parent}"]
        return key_tag(prefix, parent, key), ids.get(parent, f"key:{key}")
    for reference in contents.image.bases.values():
        return (reference, ids[reference]) if reference in ids else None
    return None


def _literal(value: str) -> str:
    """As it stands: bake reads `${` and `%{` in JSON as the start of an expression."""
    return value.replace("${", "$${").replace("%{", "%%{")
