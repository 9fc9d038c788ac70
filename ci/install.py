"""`python -m ci.install PYTHON LOCK`: install a lock into the environment of PYTHON, quickly where that can be had.

uv needs a second where pip needs twenty. It comes into `.nox/.uv` once, by pip. Where it cannot be had, or does not
find the packages because only pip knows the index, pip does the work; the lock's hashes decide what comes either way.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ci.workspace import ROOT

_PLACE = ROOT / ".nox" / ".uv"
_QUIET = ("--quiet", "--disable-pip-version-check")


def install(python: str, lock: Path, uv: str | None) -> int:
    """Returns 0, or pip's exit code after it has said why."""
    if uv is not None:
        # Compiled now, as pip does: otherwise each process that a test starts may compile 600 modules again.
        options = ("--quiet", "--compile-bytecode", "--python", python)
        done = _run(uv, "pip", "install", *options, "--require-hashes", "-r", str(lock))
        if done.returncode == 0:
            return 0
        said = done.stderr.strip().splitlines() or ["no reason given"]
        print(f"uv could not install {lock.name}, pip does: {said[-1].strip()}", flush=True)
    return subprocess.run(
        [python, "-m", "pip", "install", *_QUIET, "--require-hashes", "-r", str(lock)], check=False
    ).returncode


def find_uv(place: Path = _PLACE) -> str | None:
    """The machine's uv, or one of our own; None if there is none to be had."""
    if found := shutil.which("uv"):
        return found
    program = place / "bin" / "uv"
    if not program.exists():
        _run(sys.executable, "-m", "venv", str(place))
        _run(str(place / "bin" / "python"), "-m", "pip", "install", *_QUIET, "uv")
    return str(program) if program.exists() else None


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


if __name__ == "__main__":
    raise SystemExit(install(sys.argv[1], Path(sys.argv[2]), find_uv()))
