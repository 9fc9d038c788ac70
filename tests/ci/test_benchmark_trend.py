"""The benchmarks' store of runs, and the table of what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks import trend


def run(number: int, **values: float) -> dict[str, Any]:
    """What a run's report holds, as far as the trend reads it."""
    figures = [{"name": name, "value": value, "unit": "records/s"} for name, value in values.items()]
    return {"at": f"day {number}", "version": "0.1.0", "figures": figures, "machine": {}}


@pytest.mark.requirement("R3.2")
def test_a_run_is_compared_with_the_median_of_those_before(tmp_path: Path) -> None:
    """A change within the noise is plain, one beyond it bold; a new figure has nothing to compare with."""
    store = tmp_path / "deep" / "trend.jsonl"
    for number, speed in enumerate((100.0, 110.0, 900.0)):
        trend.record(store, run(number, speed=speed, steady=10))
    page = trend.record(store, run(3, speed=55, steady=11, new=1))
    text = page.read_text()
    assert page.name == "trend.md"
    assert "day 3" in text
    assert "| speed | 55 records/s | 110 | **-50%** |" in text
    assert "| steady | 11 records/s | 10 | +10% |" in text
    assert "| new | 1 records/s |  |  |" in text


@pytest.mark.requirement("R3.2")
def test_only_recent_runs_count(tmp_path: Path) -> None:
    """Eight before the last one."""
    store = tmp_path / "trend.jsonl"
    for number in range(20):
        trend.record(store, run(number, speed=1 if number < 11 else 100))
    text = trend.record(store, run(20, speed=100)).read_text()
    assert "median of 8 before" in text
    assert "| 100 | +0% |" in text


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    """A run that was killed while it wrote does not end the trend."""
    store = tmp_path / "trend.jsonl"
    trend.record(store, run(0, speed=100))
    with store.open("a") as file:
        file.write('{"at": "day 1", "fig\n')
    assert "| 100 | +0% |" in trend.record(store, run(2, speed=100)).read_text()
