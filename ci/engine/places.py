"""Where everything of an engine that is started here lives.

Another set of places is another engine, but the bridge and the firewall rules belong to the network namespace: two
engines in one would take them from each other, and one with --bridge=none removes the other's bridge. Start the second
under `unshare --net`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SOCKET = Path("/var/run/docker.sock")
_FOLDERS = ("usr/bin", "usr/sbin", "usr/libexec/docker/cli-plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders and files, by default those of the machine's one engine."""

    prefix: Path = Path("/opt/rpa-engine")  # packages, one folder each; safe to delete while it is stopped
    data: Path = Path("/var/lib/rpa-engine")  # images and volumes
    run: Path = Path("/run/rpa-engine")  # of the running engine; gone after a reboot, like the engine
    log: Path = Path("/var/log/rpa-engine.log")
    socket: Path = _SOCKET
    bin: Path = Path("/usr/local/bin")
    plugins: Path = Path("/usr/local/lib/docker/cli-plugins")
    options: tuple[str, ...] = ()  # more for dockerd

    @property
    def packages(self) -> Path:
        """Unpacked packages, a folder each."""
        return self.prefix / "packages"

    @property
    def links(self) -> Path:
        """Programs under the names by which the engine looks for them."""
        return self.prefix / "bin"

    @property
    def started(self) -> Path:
        """The record of the engine that was started here."""
        return self.run / "started.json"

    def program(self, name: str) -> Path | None:
        """A program of an unpacked package."""
        return next((folder / name for folder in self.folders() if (folder / name).exists()), None)

    def folders(self) -> Iterator[Path]:
        """Those with programs."""
        for package in sorted(self.packages.glob("[!.]*")):
            for folder in _FOLDERS:
                if (package / folder).is_dir():
                    yield package / folder

    def host(self) -> tuple[str, ...]:
        """Arguments by which the docker command reaches this engine; none for the machine's one."""
        return () if self.socket == _SOCKET else ("--host", f"unix://{self.socket}")

    def path(self, base: str) -> str:
        """PATH for the engine, ours first."""
        return os.pathsep.join([str(self.links), *map(str, self.folders()), base])
