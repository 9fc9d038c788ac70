"""`python -m ci.install PYTHON ARGUMENTS...`: install into the environment of PYTHON, quickly.

uv needs a second where pip needs twenty. It comes into `.nox/.uv` once, by pip. Where it cannot be had, or cannot find a
package because the index is only known to pip, pip does the work. Two arguments are ours, everything else is passed on:
`--locked-versions` holds everything to the versions of `requirements/test.txt`; `--reinstall` is known to both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PLACE = ROOT / ".nox" / ".uv"
_PIP_QUIET = ("--quiet", "--disable-pip-version-check")


def main(arguments: list[str]) -> int:
    """Returns pip's exit code, or 0 where uv has done it."""
    python, what = Path(arguments[0]), arguments[1:]
    with tempfile.TemporaryDirectory() as folder:
        if "--locked-versions" in what:
            what.remove("--locked-versions")
            constraints = Path(folder) / "constraints.txt"
            lines = (ROOT / "requirements" / "test.txt").read_text().splitlines()
            constraints.write_text("\n".join(without_hashes(lines)) + "\n")
            what = ["--constraint", str(constraints), *what]
        uv = find_uv()
        if uv is not None:
            done = _run(uv, "pip", "install", "--quiet", "--python", str(python), *what, quiet=True)
            if done.returncode == 0:
                return 0
            print(f"uv could not install, pip tries: {_last_line(done.stderr)}", flush=True)
        return _run(str(python), "-m", "pip", "install", *_PIP_QUIET, *map(_for_pip, what)).returncode


def find_uv() -> str | None:
    """The machine's uv, or one of our own; None if there is none to be had."""
    if found := shutil.which("uv"):
        return found
    program = _PLACE / "bin" / "uv"
    if not program.exists():
        _run(sys.executable, "-m", "venv", str(_PLACE), quiet=True)
        _run(str(_PLACE / "bin" / "python"), "-m", "pip", "install", *_PIP_QUIET, "uv", quiet=True)
    return str(program) if program.exists() else None


def without_hashes(lines: Iterable[str]) -> list[str]:
    """A hashed lock as constraints: hashes would turn hash checking on for our own wheels too."""
    kept = (line.strip().removesuffix("\\").rstrip() for line in lines)
    return [line for line in kept if line and not line.startswith(("--hash", "#"))]


def _for_pip(argument: str) -> str:
    return "--force-reinstall" if argument == "--reinstall" else argument


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


def _run(*command: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=quiet, text=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
