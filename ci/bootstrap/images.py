"""The images that can be made here, and the key of each one's definition."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ci.workspace import ROOT

LABEL = "rpa.bootstrap"  # the key; an image without it is not ours
FOLDER = "docker/bootstrap"
SUITE = "trixie"
_LEFT_OVER = (  # of the machine or of the making: the name, name servers, mirrors and options that mmdebstrap was given
    "etc/hostname etc/resolv.conf etc/apt/sources.list etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap "
    "var/cache/apt/*.bin var/cache/debconf/*-old var/log/*.log var/log/apt"
)
ROOTFS = (  # what mmdebstrap is told on every machine
    "--variant=minbase",
    "--format=tar",
    "--customize-hook=rm -rf " + " ".join(f'"$1"/{name}' for name in _LEFT_OVER.split()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One image: its folder in docker/bootstrap, the name that it takes, what it is made from."""

    name: str
    reference: str
    parent: str | None = None  # by name
    made_of: str


SERVICES = (
    Service(
        name="debian", reference="debian:trixie-slim", made_of="mmdebstrap, Debian 13's essential packages and apt"
    ),
    Service(name="python", reference="python:3.13-slim-trixie", parent="debian", made_of="Debian's Python 3.13"),
    Service(name="postgres", reference="postgres:17-trixie", parent="debian", made_of="Debian's PostgreSQL 17"),
    Service(
        name="prefect",
        reference="prefecthq/prefect:3.8.8-python3.13",
        parent="python",
        made_of="Prefect 3.8.8 from the Python package index",
    ),
    Service(name="haproxy", reference="haproxy:3.0", parent="debian", made_of="Debian's HAProxy 3.0"),
    Service(
        name="prometheus", reference="prom/prometheus:v2.53.3", parent="debian", made_of="Debian's Prometheus 2.53"
    ),
    Service(
        name="alertmanager",
        reference="prom/alertmanager:v0.28.1",
        parent="debian",
        made_of="Debian's Alertmanager 0.28",
    ),
)


def keys(root: Path = ROOT) -> dict[str, str]:
    """Name -> hash of everything in the repository that decides the image, its parents' included."""
    found: dict[str, str] = {}
    for service in SERVICES:  # parents stand before their children
        folder = root / FOLDER / service.name
        definition = {
            "reference": service.reference,
            "parent": found[service.parent] if service.parent else ROOTFS,
            "files": {
                path.relative_to(folder).as_posix(): [path.stat().st_mode & 0o111 != 0, _digest(path)]
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        }
        text = json.dumps(definition, sort_keys=True)
        found[service.name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
