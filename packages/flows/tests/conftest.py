"""Fixtures of the flows' tests: the shipped survey, and another one that exercises every part of a codebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_flows.codebook.load import load_codebook
from rpa_flows.codebook.model import Codebook
from rpa_flows.generator import Row, real_rows

SURVEYS = Path(__file__).parent / "surveys"


@pytest.fixture(scope="session")
def anes96() -> Codebook:
    """The shipped codebook."""
    return load_codebook("anes96")


@pytest.fixture(scope="session")
def anes96_rows(anes96: Codebook) -> list[Row]:
    """The 944 real responses."""
    return real_rows(anes96)


@pytest.fixture(scope="session")
def satisfaction_path() -> Path:
    """The codebook of another survey: every type, flag and rule there is."""
    return SURVEYS / "satisfaction.toml"


@pytest.fixture(scope="session")
def satisfaction(satisfaction_path: Path) -> Codebook:
    """The same, read."""
    return load_codebook(satisfaction_path)


@pytest.fixture(scope="session")
def satisfaction_rows(satisfaction: Codebook) -> list[Row]:
    """Its five responses."""
    return real_rows(satisfaction, SURVEYS / "satisfaction.csv")
