"""The table of docs/images.md is what really happens."""

from __future__ import annotations

import pytest
from ci.images import edits


@pytest.mark.requirement("R4.3", "R4.4")
def test_the_table_of_edits_is_true() -> None:
    """Every edit is made in a copy of the workspace; what would be rebuilt is what the page says."""
    text = edits.PAGE.read_text(encoding="utf-8")
    assert edits.page(text, edits.table()) == text, "run: python -m ci.images.edits"


@pytest.mark.requirement("R4.3", "R4.4")
def test_the_rows_that_users_rely_on() -> None:
    """Core rebuilds all, a flow only itself, tests and documentation nothing."""
    page = edits.PAGE.read_text(encoding="utf-8").partition("| edit | rebuilt |")[2].partition("<!--")[0]
    rows = dict(line.strip("| ").split(" | ") for line in page.splitlines() if " | " in line)
    assert rows["a core module"] == "rpa-base, rpa-flow1, rpa-flow2, rpa-flow3"
    assert rows["rpa2's handler"] == "rpa-flow2"
    assert rows["tests"] == rows["documentation"] == rows["`touch` of a core module"] == "nothing"
