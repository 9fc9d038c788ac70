"""The labels of an image: what it is, what it is made of, where it comes from.

Labels are the last thing an image gets and make no layer, so that a new revision or time neither rebuilds a step nor
changes a key.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ci.images import manifest
from ci.images.model import IMAGE_LABEL, KEY_LABEL, MANIFEST_LABEL, Contents
from ci.workspace import ROOT, read_toml

ENVIRONMENT_LABEL = "rpa.environment"
PREFIX_LABEL = "rpa.prefix"  # of the build that made it: whose it is while it has no tag
_OCI = "org.opencontainers.image"
_GIT_S = 20.0


def labels(
    contents: Contents,
    *,
    prefix: str,
    base: tuple[str, str] | None,
    provenance: Mapping[str, str],
) -> dict[str, str]:
    """All labels of one image. `base` is the reference and the id or digest of the image it is FROM, if it is known."""
    image = contents.image
    found = {
        KEY_LABEL: contents.key,
        MANIFEST_LABEL: manifest.canonical(contents.manifest),
        IMAGE_LABEL: image.name,
        ENVIRONMENT_LABEL: image.environment,
        PREFIX_LABEL: prefix,
        f"{_OCI}.title": image.name,
        f"{_OCI}.description": image.title,
        **provenance,
    }
    if base:
        found |= {f"{_OCI}.base.name": base[0], f"{_OCI}.base.digest": base[1]}
    return found


def provenance(root: Path = ROOT, *, now: datetime | None = None) -> dict[str, str]:
    """Version, licence, time, and the commit with `-dirty` where the tree differs from it; without git, no commit."""
    project = read_toml(root / "pyproject.toml")["project"]
    member = read_toml(root / "packages" / "core" / "pyproject.toml")["project"]
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    found = {
        f"{_OCI}.version": str(project["version"]),
        f"{_OCI}.licenses": str(member["license"]),
        f"{_OCI}.vendor": "rpa",
        f"{_OCI}.created": moment.isoformat().replace("+00:00", "Z"),
    }
    if revision := _git(root, "rev-parse", "HEAD"):
        dirty = _git(root, "status", "--porcelain", "--untracked-files=normal")
        found[f"{_OCI}.revision"] = revision + ("-dirty" if dirty else "")
    if source := _git(root, "config", "--get", "remote.origin.url"):
        found[f"{_OCI}.source"] = _without_credentials(source)
    return found


def _git(root: Path, *arguments: str) -> str:
    """What git says; empty where there is no git, or `root` is not the top of a repository."""
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url  # git@host:path names no password
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
