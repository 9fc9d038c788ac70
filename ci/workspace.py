"""What the workspace says of itself: its members, their versions, its files."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = ("core", "flows", "testkit")


def manifest(member: str, root: Path = ROOT) -> dict[str, Any]:
    """A member's pyproject.toml."""
    return read_toml(root / "packages" / member / "pyproject.toml")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's content."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def files(root: Path = ROOT) -> list[Path]:
    """Every file that is or would be committed; without git, every file outside hidden and built folders."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        skipped = {"__pycache__", "dist", "build", "reports"}
        found = (path for path in root.rglob("*") if not _hidden(path.relative_to(root)))
        return sorted(path for path in found if path.is_file() and not skipped.intersection(path.parts))
    return sorted(path for name in listed.split("\0") if name and (path := root / name).is_file())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
