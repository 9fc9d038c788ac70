"""Installing a lock: uv where it works, pip where it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ci.install import install


@pytest.mark.requirement("D1")
def test_pip_takes_over_where_uv_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A uv that cannot find a package is named with its last words, and pip installs the lock."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 2\n")
    uv.chmod(0o755)
    lock = tmp_path / "empty.txt"
    lock.write_text("")
    assert install(sys.executable, lock, str(uv)) == 0
    assert "uv could not install empty.txt, pip does: no such package" in capfd.readouterr().out


@pytest.mark.requirement("D1")
def test_modules_are_compiled_when_they_are_installed(tmp_path: Path) -> None:
    """Not by whoever imports them first, which where nothing is to be written is everybody."""
    uv, said = tmp_path / "uv", tmp_path / "said"
    uv.write_text(f'#!/bin/sh\necho "$@" > "{said}"\n')
    uv.chmod(0o755)
    assert install(sys.executable, tmp_path / "empty.txt", str(uv)) == 0
    assert "--compile-bytecode" in said.read_text().split()


@pytest.mark.requirement("D1")
def test_a_lock_that_cannot_be_installed_fails(tmp_path: Path) -> None:
    """Neither of the two can: the exit code says so."""
    lock = tmp_path / "bad.txt"
    lock.write_text("not a requirement at all ===\n")
    assert install(sys.executable, lock, None) != 0
