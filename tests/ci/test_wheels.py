"""Looking into wheels."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ci import wheels

_WHOLE = ["rpa_core/py.typed", "rpa_core/claim.sql"]
_LICENSE = "License-Expression: MIT\n"


def make(tmp_path: Path, names: list[str], metadata: str = "License-Expression: MIT\n") -> Path:
    """A source tree with types and one SQL file, and a wheel that holds `names`."""
    source = tmp_path / "packages/core/src/rpa_core"
    source.mkdir(parents=True)
    for name in ("py.typed", "claim.sql"):
        (source / name).touch()
    wheel = tmp_path / "rpa_core-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr("rpa_core-0.1.0.dist-info/METADATA", metadata)
    return wheel


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    ("names", "metadata", "problems"),
    [
        (_WHOLE, _LICENSE, []),
        (_WHOLE[:1], _LICENSE, ["lacks rpa_core/claim.sql"]),
        ([*_WHOLE, "tests/test_it.py"], _LICENSE, ["should not hold tests/test_it.py"]),
        (_WHOLE, "", ["METADATA lacks License-Expression"]),
    ],
)
def test_a_wheel_holds_what_the_source_holds(
    tmp_path: Path, names: list[str], metadata: str, problems: list[str]
) -> None:
    """A missing data file, a test that slipped in, a missing licence: each is named."""
    found = wheels.problems(make(tmp_path, names, metadata), "core", tmp_path)
    assert len(found) == len(problems)
    assert all(problem in line for problem, line in zip(problems, found, strict=True))
