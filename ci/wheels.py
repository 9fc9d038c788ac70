"""The wheels: built from the members, and looked into before anybody installs one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from ci.workspace import MEMBERS, ROOT, files, manifest

DIST = ROOT / "dist"


def build(folder: Path = DIST) -> list[Path]:
    """Build every member's wheel with the installed hatchling; earlier ones in `folder` are removed."""
    for old in folder.glob("rpa_*.whl"):
        old.unlink()
    for member in MEMBERS:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT / "packages" / member, check=True)
    return [wheel_of(member, folder) for member in MEMBERS]


def wheel_of(member: str, folder: Path = DIST) -> Path:
    """Where a member's wheel is."""
    return folder / f"rpa_{member}-{manifest(member)['project']['version']}-py3-none-any.whl"


def problems(wheel: Path, member: str, root: Path = ROOT) -> list[str]:
    """What is missing from a wheel, or has no business in it."""
    package = f"rpa_{member}"
    source = root / "packages" / member / "src"
    wanted = {str(path.relative_to(source)) for path in files(root) if path.is_relative_to(source / package)}
    wanted.add(f"{package}/py.typed")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    return [
        *(f"{wheel.name} lacks {name}" for name in sorted(wanted - found)),
        *(f"{wheel.name} should not hold {name}" for name in sorted(found - wanted)),
        *(f"{wheel.name}: METADATA lacks {line}" for line in ("License-Expression: MIT",) if line not in text),
    ]


def main(arguments: list[str]) -> int:
    """`python -m ci.wheels build|check`."""
    if arguments == ["build"]:
        for wheel in build():
            print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size} bytes")
        return 0
    if arguments != ["check"]:
        print(main.__doc__, file=sys.stderr)
        return 64
    found = [line for member in MEMBERS for line in problems(wheel_of(member), member)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
