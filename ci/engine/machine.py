"""What this machine is and what it has: looked at, never changed, in this module."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ci.engine.commands import run
from ci.engine.places import Places
from ci.errors import ToolError

OS_RELEASE = Path("/etc/os-release")
OLDEST_MAJOR = 25  # named build contexts (23), health checks with a start interval (25)
OLDEST_DEBIAN = 12
PROGRAMS = {  # what an engine needs besides itself -> Debian package
    "runc": "runc",
    "tini": "tini",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "update-ca-certificates": "ca-certificates",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOW_ELSE = "install Docker Engine 25 or newer with compose and buildx as its documentation says for this system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found. Versions are None where there is nothing."""

    root: bool
    system: str  # of os-release: "debian"
    release: int  # 12; 0 where it does not say, as testing does
    codename: str
    answers: str | None  # version of the engine that answers
    client: bool
    compose: bool
    buildx: bool
    missing: tuple[str, ...]  # Debian packages
    dockerd: Path | None  # one that is new enough


def look(places: Places) -> Seen:
    """Ask the machine."""
    system, release, name = read_os_release(OS_RELEASE)
    return Seen(
        root=os.geteuid() == 0,
        system=system,
        release=release,
        codename=name,
        answers=engine_version(places),
        client=shutil.which("docker") is not None,
        compose=_works("docker", "compose", "version"),
        buildx=_works("docker", "buildx", "version"),
        missing=tuple(package for program, package in PROGRAMS.items() if find(program) is None),
        dockerd=dockerd(places),
    )


def codename() -> str:
    """The name of this machine's Debian release; ToolError where it is not Debian."""
    system, _, name = read_os_release(OS_RELEASE)
    if system != "debian" or not name:
        raise ToolError(f"This needs Debian's packages, and this machine runs {system or 'something else'}.")
    return name


def read_os_release(path: Path) -> tuple[str, int, str]:
    """ID, major VERSION_ID (0: none) and VERSION_CODENAME."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "", 0, ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    found = {name: value.strip().strip("\"'") for name, value in fields.items()}
    number = found.get("VERSION_ID", "").partition(".")[0]
    return found.get("ID", ""), int(number) if number.isdigit() else 0, found.get("VERSION_CODENAME", "")


def check(seen: Seen) -> None:
    """ToolError where an engine cannot be brought to this machine, or one that is too old answers."""
    if seen.answers is not None and major(seen.answers) < OLDEST_MAJOR:
        message = (
            f"Docker Engine {seen.answers} answers, which is too old: without named build contexts, which came with "
            f"{OLDEST_MAJOR}, images cannot be built on images of the same run. Stop it, then run this again"
        )
        raise ToolError(f"{message}; or {_HOW_ELSE}." if seen.system == "debian" else f"{message}: {_HOW_ELSE}.")
    if seen.answers is not None and seen.compose and seen.buildx:
        return
    if seen.system != "debian":
        raise ToolError(f"This machine runs {seen.system or 'an unknown system'}, not Debian: {_HOW_ELSE}.")
    if 0 < seen.release < OLDEST_DEBIAN:
        raise ToolError(f"Debian {seen.release} is too old for these packages (12 or newer): {_HOW_ELSE}.")
    if not seen.root:
        raise ToolError("Installing and starting an engine needs root: run the same with sudo.")


def engine_version(places: Places) -> str | None:
    """Version of the engine that answers, or None; asked with whatever client there is."""
    client = shutil.which("docker") or places.program("docker")
    if client is None:
        return None
    done = run(str(client), *places.host(), "version", "--format", "{{.Server.Version}}", check=False, timeout_s=30)
    return done.stdout.strip() or None if done.returncode == 0 else None


def dockerd(places: Places) -> Path | None:
    """An engine that is new enough: the one that was unpacked here, or else the machine's own."""
    for path in (places.program("dockerd"), find("dockerd")):
        version = re.search(r"version (\S+?),", _output(str(path), "--version")) if path else None
        if version and major(version[1]) >= OLDEST_MAJOR:
            return path
    return None


def find(program: str) -> Path | None:
    """A program, also where PATH lacks the administrator's folders."""
    found = shutil.which(program) or shutil.which(program, path=_PATH)
    return Path(found) if found else None


def major(version: str) -> int:
    """26 of "26.1.5+dfsg1"; 0 where it does not begin with a number."""
    matched = re.match(r"\d+", version)
    return int(matched[0]) if matched else 0


def _works(*command: str) -> bool:
    return shutil.which(command[0]) is not None and run(*command, check=False, timeout_s=30).returncode == 0


def _output(*command: str) -> str:
    try:
        return run(*command, check=False, timeout_s=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
