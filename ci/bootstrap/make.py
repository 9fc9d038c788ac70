"""Making what was decided: the root file system first, then the rest with one buildx bake, in parallel."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ci import docker
from ci.bootstrap import rootfs
from ci.bootstrap.decide import Choice, choose
from ci.bootstrap.images import FOLDER, LABEL, SERVICES, Service, keys
from ci.build_secrets import build_secrets, proxy_arguments
from ci.errors import ToolError
from ci.workspace import ROOT

_BAKE_S = 3600


def bootstrap(
    *,
    names: Iterable[str] = (),
    force: bool = False,
    dry_run: bool = False,
    root: Path = ROOT,
) -> list[Choice]:
    """Make those of `names` (all where empty) that are missing or out of date, and say what is done and why."""
    definitions = keys(root)
    choices = choose(_labels(), definitions, names=names, force=force)
    for choice in choices:
        print(f"{'make' if choice.make else 'keep'}  {choice.service.reference:<36} {choice.reason}", flush=True)
    wanted = [choice.service for choice in choices if choice.make]
    if not wanted or dry_run:
        return choices

    print("Where a registry can be reached, remove these and docker pull brings the official ones.", flush=True)
    for service in wanted:
        if service.parent is None:
            began = time.monotonic()
            rootfs.make(service.reference, _image_labels(service, definitions), root)
            _made([service], began)
    if baked := [service for service in wanted if service.parent]:
        began = time.monotonic()
        bake(bake_file(baked, definitions, root=root, secrets=build_secrets(root)), no_cache=force)
        _made(baked, began)
    return choices


def bake_file(
    services: Sequence[Service],
    definitions: Mapping[str, str],
    *,
    root: Path,
    secrets: Mapping[str, Path],
    prefix: str = "",
) -> dict[str, Any]:
    """What `docker buildx bake` reads; a parent that is made in the same run is waited for.

    `prefix` stands before the names that are made, so that a trial leaves the real images alone.
    """
    names = {service.name for service in services}
    references = {service.name: service.reference for service in SERVICES}
    targets = {}
    for service in services:
        assert service.parent is not None, "the root file system is not baked"
        contexts = {references[service.parent]: f"target:{service.parent}"} if service.parent in names else {}
        targets[service.name] = {
            "context": str(root / FOLDER / service.name),
            "contexts": contexts,
            "tags": [prefix + service.reference],
            "labels": _image_labels(service, definitions),
            "secret": [f"id={name},src={path}" for name, path in sorted(secrets.items())],
            "args": proxy_arguments(),
        }
    return {"group": {"default": {"targets": sorted(targets)}}, "target": targets}


def bake(file: Mapping[str, Any], *, no_cache: bool = False) -> None:
    """Run it; `no_cache` also takes packages that are newer than those of an earlier run."""
    options = ["--no-cache"] if no_cache else []
    done = docker.run(
        *("buildx", "bake", "--builder", docker.builder(), "--progress", "plain", "--file", "-", *options),
        input=json.dumps(file),
        timeout_s=_BAKE_S,
        check=False,
    )
    if done.returncode:
        _, found, end = done.stderr.rpartition("\n------\n > ")  # where the failing step and its last lines are shown
        said = end if found else "\n".join(done.stderr.strip().splitlines()[-12:])
        raise ToolError(f"docker buildx bake failed with {done.returncode}:\n{said.strip()}")


def _labels() -> dict[str, Mapping[str, str] | None]:
    there = {tag: image.labels for image in docker.images() for tag in image.tags}
    return {service.name: there.get(service.reference) for service in SERVICES}


def _image_labels(service: Service, definitions: Mapping[str, str]) -> dict[str, str]:
    return {
        LABEL: definitions[service.name],
        "org.opencontainers.image.title": f"{service.reference.partition(':')[0]}, made by invoke build.bootstrap",
        "org.opencontainers.image.description": f"{service.made_of}, with the contract of {service.reference}",
    }


def _made(services: Sequence[Service], began: float) -> None:
    for service in services:
        print(f"made  {service.reference:<36} from {service.made_of}")
    print(f"      in {time.monotonic() - began:.0f} s", flush=True)
