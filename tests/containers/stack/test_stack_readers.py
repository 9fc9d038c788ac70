"""The readers' own tests on the Python of the images: another patch release, made by another distribution."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ci.images.command import prefix
from ci.workspace import ROOT

from .driver import docker

_TESTS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis", "sortedcontainers")
_VERSION = "import sys; print(*sys.version_info[:2], sep='.')"


def _locked(names: tuple[str, ...]) -> str:
    """These packages' part of the lock, hashes included."""
    lock = (ROOT / "requirements/core.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"^\S+==(?:.*\\\n)+.*$", lock, re.MULTILINE)
    return "\n".join(block for block in blocks if block.partition("==")[0] in names)


@pytest.mark.slow
@pytest.mark.requirement("R8.7")
def test_readers_read_the_same_on_the_images_python(images: None, tmp_path: Path) -> None:
    """CSV and JSON, by examples and at random, in the development image, with rpa_core as the image has it."""
    image = f"{prefix()}rpa-base:development"
    box = ["run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--entrypoint=python"]
    version = docker(*box, image, "-c", _VERSION).strip()
    (tmp_path / "lock.txt").write_text(_locked(_TESTS))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    where = ["--only-binary=:all:", f"--python-version={version}", f"--target={tmp_path / 'tools'}"]
    subprocess.run([*install, *where, "--requirement", str(tmp_path / "lock.txt")], check=True, timeout=300)
    tests = sorted((ROOT / "packages/core/tests/unit").glob("test_formats_*.py"))
    assert len(tests) >= 2
    given = [f"--volume={ROOT / 'packages/core/tests/unit'}:/given/unit:ro", f"--volume={tmp_path / 'tools'}:/tools:ro"]
    given += [f"--volume={ROOT / 'pyproject.toml'}:/given/pyproject.toml:ro", "--env=PYTHONPATH=/tools"]
    given += ["--env=HYPOTHESIS_STORAGE_DIRECTORY=/tmp/examples"]
    run = ["-m", "pytest", "-q", "-c", "/given/pyproject.toml", "-p", "no:cacheprovider"]
    said = docker(*box, *given, image, *run, *(f"/given/unit/{test.name}" for test in tests), check=False)
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said[-4000:]
    assert " failed" not in said
