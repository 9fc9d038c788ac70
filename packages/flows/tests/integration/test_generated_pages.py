"""Pages that are made from the code are as the code is."""

from __future__ import annotations

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
