"""Dependencies as programs of this machine: the real ones where they are installed, else a stand-in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from rpa_testkit.ports import HOST
from rpa_testkit.scenario.model import ALERTMANAGER, PREFECT, Dependency

_ALERTMANAGERS = ("prometheus-alertmanager", "alertmanager")  # Debian's name for it, and its own
_NOBODY = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a dependency is started. `stand_in` says why it is not the real one; empty if it is."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stand_in: str = ""


def program_of(dependency: Dependency, port: int, folder: Path) -> Program:
    """What serves it on `port`; `folder` takes its data, which outlive its ends."""
    folder.mkdir(parents=True, exist_ok=True)
    match dependency.name:
        case "prefect" if command := _prefect():
            return _prefect_server(command, port, folder)
        case "alertmanager" if found := next(filter(None, map(shutil.which, _ALERTMANAGERS)), None):
            return _alertmanager(found, port, folder)
    missing = {
        PREFECT: "neither the package prefect nor a program of that name is installed here",
        ALERTMANAGER: "no program prometheus-alertmanager is installed here (Debian's package of that name)",
    }.get(dependency.name, "nothing is known of it but its health path")
    argv = (sys.executable, "-m", "rpa_testkit.drivers.process.stand_in", str(port), dependency.health_path)
    return Program(argv=argv, stand_in=missing)


def _prefect() -> tuple[str, ...]:
    if find_spec("prefect"):
        return (sys.executable, "-m", "prefect")
    found = shutil.which("prefect")
    return (found,) if found else ()


def _prefect_server(command: tuple[str, ...], port: int, folder: Path) -> Program:
    return Program(
        argv=(*command, "server", "start", "--host", HOST, "--port", str(port), "--no-ui"),
        env={
            "PREFECT_HOME": str(folder),
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
        },
    )


def _alertmanager(found: str, port: int, folder: Path) -> Program:
    configuration = folder / "alertmanager.yml"
    configuration.write_text(_NOBODY)
    return Program(
        argv=(
            found,
            f"--config.file={configuration}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",  # alone: no peer is looked for
            "--log.level=warn",
        )
    )
