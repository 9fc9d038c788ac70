"""What a comparison with other queues says of a side that is right, void or missing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import pytest
from benchmarks.peers import chart
from benchmarks.peers.outcome import Found, Run, Taken, figures_of, row


@dataclass(frozen=True)
class Named:
    """A side, as far as its figures need one."""

    name: str
    settings: tuple[()] = ()

    def version(self) -> str:
        """Any."""
        return f"{self.name} 1.0"


def taken(name: str, *speeds: float, wrong: str = "", latency_ms: tuple[float, ...] = (2.0, 3.0, 4.0)) -> Taken:
    """A side with runs of these speeds; the last one is `wrong`."""
    runs = [Run(records_per_s=speed, took_s=1.0, wrong="") for speed in speeds]
    if wrong:
        runs[-1] = Run(records_per_s=speeds[-1], took_s=1.0, wrong=wrong)
    return Taken(side=Named(name), records=10, runs=runs, latency_ms=list(latency_ms))  # type: ignore[arg-type]  # a part of one


@pytest.mark.requirement("R3.2")
@pytest.mark.parametrize(
    ("rows", "distinct", "lowest", "highest", "right"),
    [
        (10, 10, 0, 9, True),
        (9, 9, 0, 9, False),
        (11, 10, 0, 9, False),
        (10, 9, 0, 9, False),
        (10, 10, 1, 10, False),
        (0, 0, None, None, False),
    ],
)
def test_a_run_counts_only_with_one_row_for_each_record(
    rows: int, distinct: int, lowest: int | None, highest: int | None, right: bool
) -> None:
    """One lost, one twice, one twice instead of another, another's: each is seen."""
    found = Found(rows=rows, distinct=distinct, lowest=lowest, highest=highest)
    assert (found.wrong(10) == "") is right


@pytest.mark.requirement("R3.2")
def test_a_side_with_a_wrong_run_has_no_speed_and_misses_its_bar() -> None:
    """Its other runs do not save it; the others' figures stand."""
    sides = [taken("rpa", 100, 300, 200), taken("slow", 1, 2, 3), taken("lossy", 9, 9, wrong="8 result rows")]
    found = {figure.name: figure for figure in figures_of(sides, {})}
    assert found["rpa, 2 workers"].value == 200
    assert found["rpa / slow"].value == 100
    assert found["rpa / slow, one record, p50"].value == 1
    assert not [name for name in found if "lossy" in name and "runs with" not in name]
    lossy = found["lossy: runs with exactly one result row per record"]
    assert lossy.ok is False
    assert "VOID: 8 result rows" in lossy.note
    assert found["slow: runs with exactly one result row per record"].ok is True


@pytest.mark.requirement("R3.2")
def test_a_missing_side_is_named() -> None:
    """In the figures and in the chart, with what it misses; it misses no bar."""
    gone = {"celery": "no redis-server on the PATH"}
    figure = next(figures_of([taken("rpa", 1.0)], gone))
    assert (figure.name, figure.value, figure.ok) == ("celery: missing", 0, None)
    assert "no redis-server" in figure.note
    assert "no redis-server" in row("celery", [], gone).note


@pytest.mark.requirement("R3.2")
def test_a_side_that_failed_is_void() -> None:
    """A worker that ended is no reason to leave its side out silently."""
    side = taken("slow", 5.0)
    side.failures.append("RuntimeError: a worker of slow ended")
    assert side.speeds == []
    assert "a worker of slow ended" in row("slow", [side], {}).note
    verdict = next(figures_of([side], {}))
    assert (verdict.ok, verdict.unit) == (False, "of 2")


@pytest.mark.requirement("R3.2")
def test_the_chart_shows_every_side() -> None:
    """Well-formed, whatever the notes hold; faster sides stand further right."""
    rows = [
        chart.Row(name="rpa", speeds=[300_000, 400_000], p50_ms=5, p95_ms=7),
        chart.Row(name="slow", speeds=[800], p50_ms=50, p95_ms=70),
        chart.Row(name="gone", note="missing: <redis> & more"),
    ]
    root = ET.fromstring(chart.svg(rows, subtitle="5 runs"))
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text or "" for element in root.iter(f"{space}text")]
    assert {"rpa", "slow", "gone", "missing: <redis> & more"} <= set(texts)
    assert "800  (rpa 438x)" in texts
    fast, slow = (float(dot.get("cx", "0")) for dot in root.iter(f"{space}circle"))
    assert slow < fast < 860
    quick, late = (float(bar.get("width", "0")) for bar in list(root.iter(f"{space}rect"))[1:])
    assert late == pytest.approx(10 * quick, rel=0.01)


def test_the_chart_of_nothing_is_drawn() -> None:
    """Where every side is void there is still a picture that says so."""
    rows = [chart.Row(name="rpa", note="void: 8 result rows")]
    assert "void: 8 result rows" in chart.svg(rows, subtitle="")
    assert chart.text(rows) == ["rpa void: 8 result rows"]


def test_bars_have_their_length() -> None:
    """To an eighth of a cell; a sliver is the least."""
    assert chart.bar(1) == "█" * 48
    assert chart.bar(0.5) == "█" * 24
    assert chart.bar(0.0001) == "▏"
    assert chart.bar(1.5 / 48) == "█▌"[:1] + "▌"
