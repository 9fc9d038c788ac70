"""`python -m ci.wheels build FOLDER | check WHEEL...`: build the three wheels, and look into them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from ci.install import ROOT, find_uv

PACKAGES = ("core", "flows", "testkit")
_MUST_HAVE = {
    "rpa_core": ("py.typed", "store/migrations/0001_ledger.sql", "store/sql/ledger.sql"),
    "rpa_flows": ("py.typed", "data/anes96.csv", "data/anes96.toml", "migrations/0001_responses.sql"),
    "rpa_testkit": ("py.typed", "plugin.py"),
}


def build(folder: Path) -> int:
    """Build all wheels into `folder`; what was there before goes."""
    for old in folder.glob("rpa_*.whl"):
        old.unlink()
    uv = find_uv()
    for name in PACKAGES:
        source = str(ROOT / "packages" / name)
        commands = [[sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), source]]
        if uv is not None:
            commands.insert(0, [uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), source])
        if not any(subprocess.run(command, check=False).returncode == 0 for command in commands):
            print(f"rpa-{name} cannot be built", file=sys.stderr)
            return 1
    return 0


def check(wheels: list[Path]) -> int:
    """Every wheel carries its types and its data, and no tests; the versions are in step."""
    problems = []
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        package = wheel.name.split("-")[0]
        problems += [
            f"{wheel.name} lacks {package}/{path}" for path in _MUST_HAVE[package] if f"{package}/{path}" not in names
        ]
        problems += [f"{wheel.name} carries {name}" for name in names if "/tests/" in name or "__pycache__" in name]
    if len({wheel.name.split("-")[1] for wheel in wheels}) != 1:
        problems.append("the versions are not in step")
    for line in problems or [f"{len(wheels)} wheels are as they should be"]:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    sys.exit(build(Path(rest[0])) if verb == "build" else check([Path(one) for one in rest]))
