"""Debian's root file system, from the machine's own mirror."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ci import docker
from ci.bootstrap.images import FOLDER, ROOTFS, SUITE
from ci.build_secrets import apt_config
from ci.engine import sources
from ci.engine.machine import codename
from ci.errors import ToolError
from ci.workspace import ROOT

_SECONDS = 900


def make(reference: str, labels: dict[str, str], root: Path = ROOT) -> None:
    """Make the image `reference` with mmdebstrap; ToolError where that is missing or fails."""
    if shutil.which("mmdebstrap") is None:
        raise ToolError(
            "mmdebstrap is missing, which makes the base image: apt-get install mmdebstrap, and run it again"
        )
    places = sources.derive(sources.read(), codename=codename(), suite=SUITE)
    with tempfile.TemporaryDirectory(prefix="rpa-rootfs-") as folder:
        archive = Path(folder) / "root.tar"
        _run(arguments(places, Path(folder), archive, root=root))
        changes = ['CMD ["bash"]', *(f"LABEL {name}={json.dumps(value)}" for name, value in labels.items())]
        options = [word for change in changes for word in ("--change", change)]
        docker.run("import", *options, "--message", "mmdebstrap", str(archive), reference)


def arguments(places: Sequence[sources.Source], folder: Path, archive: Path, *, root: Path = ROOT) -> list[str]:
    """The command; what it reads is written into `folder`."""
    outside, inside, apt = folder / "machine.sources", folder / "debian.sources", folder / "apt.conf"
    outside.write_text(sources.render(places), encoding="utf-8")
    inside.write_text(sources.render(sources.inside(places)), encoding="utf-8")
    apt.write_text(apt_config(bundle=False) or "", encoding="utf-8")
    definition = root / FOLDER / "debian"
    over_tls = any(uri.startswith("https:") for place in places for uri in place.uris)
    return [
        "mmdebstrap",
        *ROOTFS,
        f"--dpkgopt={definition / 'dpkg.cfg'}",
        f"--aptopt={apt}",
        *(["--include=ca-certificates"] if over_tls else []),
        f"--customize-hook=copy-in {inside} /etc/apt/sources.list.d",
        f"--customize-hook=copy-in {definition / '90container'} /etc/apt/apt.conf.d",
        SUITE,
        str(archive),
        str(outside),
    ]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"mmdebstrap did not end within {_SECONDS} s; does the Debian mirror answer?") from error
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise ToolError(
            f"mmdebstrap failed with {done.returncode}; as root, or with user namespaces, it should not:\n{said}"
        )
