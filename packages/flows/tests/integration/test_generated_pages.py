"""Pages that are made from the code are as the code is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[4] / "docs"


@pytest.mark.requirement("R1.2")
def test_the_configuration_page_is_current() -> None:
    """docs/configuration.md is what `rpa config page` prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "rpa_core.cli.main", "config", "page"], capture_output=True, text=True, check=True
    )
    assert (_DOCS / "configuration.md").read_text(encoding="utf-8") == printed.stdout


@pytest.mark.requirement("D6")
def test_the_shipped_responses_are_where_the_readme_finds_them() -> None:
    """The line of the README that gives their folder gives one with the file in it."""
    readme = (_DOCS.parent / "packages/flows/README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if line.startswith("DATA="))
    script = f'{line.replace("python", shlex.quote(sys.executable), 1)}; cat "$DATA/anes96.csv"'
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == 945
