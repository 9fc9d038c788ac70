"""Getting packages: the machine's own through apt, another release's by download alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ci.engine import sources
from ci.engine.commands import run
from ci.engine.places import Places
from ci.errors import ToolError

SUITE = "trixie"
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def install(names: Sequence[str]) -> None:
    """Install from the machine's own release; its lists are brought up to date only where that is needed."""
    command = ("apt-get", "install", "--yes", "--no-install-recommends", *names)
    if run(*command, check=False, env=_QUIET).returncode:
        run("apt-get", "update", env=_QUIET)
        run(*command, env=_QUIET)


def fetch(names: Sequence[str], places: Places, *, codename: str, suite: str = SUITE) -> list[str]:
    """Download packages of another release, checked by apt against Debian's signatures, and unpack each.

    Nothing is installed: the machine's own packages stay as they are, and dependencies are the caller's business.
    Returns what was unpacked; a package that is there already is left alone.
    """
    missing = [name for name in names if not (places.packages / name).is_dir()]
    if not missing:
        return []
    text = sources.render(sources.derive(sources.read(), codename=codename, suite=suite))
    places.packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rpa-engine-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt downloads as an account of its own
        options = private(folder, text)
        run("apt-get", *options, "update", env=_QUIET)
        downloads = folder / "downloads"
        downloads.mkdir()
        run("apt-get", *options, "download", *missing, cwd=downloads, env=_QUIET)
        for package in missing:
            archives = sorted(downloads.glob(f"{package}_*.deb"))
            if len(archives) != 1:
                raise ToolError(f"apt-get download of {package} left {len(archives)} files instead of one")
            _unpack(archives[0], places.packages / package)
    return missing


def private(folder: Path, text: str) -> list[str]:
    """Options for an apt that lives in `folder`, knows only the sources in `text` and sees nothing as installed.

    Keys, proxies and certificates stay the machine's. As options they outrank the machine's own configuration.
    """
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "place.sources").write_text(text, encoding="utf-8")
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "place.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Get::List-Cleanup": "false",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _unpack(archive: Path, target: Path) -> None:
    """Completely or not at all: a folder that is there is a whole package."""
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    run("dpkg", "-x", str(archive), str(partial))
    partial.rename(target)
