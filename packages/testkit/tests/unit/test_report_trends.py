"""Trends: the store that only grows, what is noise and what is a change."""

from __future__ import annotations

import random
from io import StringIO
from pathlib import Path

import pytest

from rpa_testkit.reports.build import build
from rpa_testkit.reports.shifts import band, shifts
from rpa_testkit.reports.store import machine_class, read, record
from rpa_testkit.reports.trends import table, trends
from rpa_testkit.reports.trends_page import trends_html, write_trends

from .support.report_histories import failed, header, judgement, passed, write_history
from .support.report_runs import noise, run, store_of


@pytest.mark.requirement("R3.5", "R9.7", "R9.2")
def test_noise_alone_gives_no_alarm() -> None:
    """1,000 series of 30 runs whose figure varies by 8 %: at most 1 % of them raise an alarm anywhere."""
    rand = random.Random(11)
    alarms = sum(bool(shifts(noise(rand, 30))) for _ in range(1_000))
    assert alarms <= 10


@pytest.mark.requirement("R3.5", "R9.7", "R9.2")
@pytest.mark.parametrize(("quiet", "within"), [(30, 7), (20, 8)])
def test_a_fifth_less_is_found_within_a_few_runs(quiet: int, within: int) -> None:
    """In at least 95 % of 400 series, and the run that it began with is off by at most two in most of them."""
    rand = random.Random(quiet)
    found = near = 0
    for _ in range(400):
        series = noise(rand, quiet) + noise(rand, within, 800.0)
        told = [shift for shift in shifts(series) if shift.known_at >= quiet and shift.change < 0]
        found += bool(told)
        near += bool(told) and abs(told[0].at - quiet) <= 2
    assert found >= 0.95 * 400
    assert near >= 0.8 * found


@pytest.mark.requirement("R3.5", "R9.2")
def test_one_wild_run_is_no_shift() -> None:
    """Half the pace once, and at the end too: nothing until it lasts."""
    steady = noise(random.Random(5), 12)
    assert shifts([*steady[:6], 400.0, *steady[6:]]) == []
    assert shifts([*steady, 400.0]) == []
    assert shifts([*steady, 400.0, 410.0]) == []
    assert len(shifts([*steady, 400.0, 410.0, 405.0])) == 1


@pytest.mark.requirement("R3.5", "R9.2")
def test_there_is_no_band_and_no_shift_before_five_runs() -> None:
    """Four runs say nothing about noise."""
    assert band([1.0, 1.1, 0.9, 1.0]) is None
    assert shifts([100.0] * 4 + [10.0] * 3) == []
    found = band([100.0, 110.0, 90.0, 100.0, 105.0])
    assert found is not None
    assert found.low < 90.0 < 110.0 < found.high


@pytest.mark.requirement("R3.5", "R9.7")
def test_a_report_is_recorded_with_its_figures(tmp_path: Path) -> None:
    """Appended, never rewritten; the same run again replaces itself when read."""
    report = build(
        write_history(tmp_path / "run", records=5_000), judgement(failed("no-lost", "1 lost"), passed("leases"))
    )
    first = record(report, tmp_path / "store")
    size = (tmp_path / "store" / "runs.jsonl").stat().st_size
    record(report, tmp_path / "store")
    assert (tmp_path / "store" / "runs.jsonl").stat().st_size == 2 * size
    runs, unreadable = read(tmp_path / "store")
    assert (runs, unreadable) == ([first], 0)
    assert first.failed == ("no-lost",)
    assert first.machine == "4 cpus, 16 GB, Linux"
    assert first.figures["throughput"] == pytest.approx(report.pace_rps, rel=1e-6)
    assert set(first.figures) == {"throughput", "p99", "peak_rss"}


@pytest.mark.requirement("R3.5", "R9.7")
def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    """The next run begins on a line of its own, and what was torn is counted."""
    report = build(write_history(tmp_path / "run", records=500), judgement())
    store = store_of(tmp_path, [run(1), run(2)])
    file = store / "runs.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [run.run_id for run in read(store)[0]] == ["run-001"]
    record(report, store)
    runs, unreadable = read(store)
    assert [run.run_id for run in runs] == ["run-001", "exactly-once-7f3a"]
    assert unreadable == 1


@pytest.mark.requirement("R3.5", "R9.7")
def test_what_changed_is_said_with_runs_and_versions(tmp_path: Path) -> None:
    """A slowdown that came with a version, and a verdict that turned, on the right key only."""
    rand = random.Random(3)
    runs = [
        run(n, figures={"throughput": value}, versions={"rpa-core": "0.1.0" if n < 20 else "0.1.1"})
        for n, value in enumerate(noise(rand, 20) + noise(rand, 10, 700.0))
    ]
    runs += [run(40 + n, driver="docker", figures={"throughput": value}) for n, value in enumerate(noise(rand, 20))]
    runs.append(run(60, driver="docker", status="fail", failed=("no-lost",), figures={"throughput": 1_000.0}))
    docker, process = trends(store_of(tmp_path, runs)).trends
    (slower,) = process.changes
    assert slower.worse
    assert (slower.before.run_id, slower.after.run_id) == ("run-019", "run-020")
    assert "Throughput fell by" in slower.says
    assert "rpa-core 0.1.0 to 0.1.1" in slower.says
    (turned,) = docker.changes
    assert "from passed (run run-059, seed 59) to failed (no-lost) with run run-060, seed 60" in turned.says
    assert process.lines[0].band is not None
    assert process.lines[0].band.high < 1_000.0


@pytest.mark.requirement("R3.5")
def test_a_shift_that_is_no_longer_shown_is_not_misplaced(tmp_path: Path) -> None:
    """Only the last fifty runs are drawn; shifts keep their runs."""
    rand = random.Random(8)
    values = noise(rand, 30) + noise(rand, 60, 600.0) + noise(rand, 10, 1_000.0)
    (trend,) = trends(store_of(tmp_path, [run(n, figures={"p99": value}) for n, value in enumerate(values)])).trends
    (change,) = trend.changes
    assert change.after.run_id == "run-090"
    assert change.worse
    assert len(trend.lines[0].values) == 50


@pytest.mark.requirement("R3.5")
def test_machines_are_compared_by_class() -> None:
    """By what is given, else by processors, memory and system; a host's name plays no part."""
    assert machine_class({"class": "ci-large", "cpus": 2}) == "ci-large"
    assert machine_class({"cpus": 2, "memory_bytes": 8 << 30, "system": "Linux", "host": "a"}) == "2 cpus, 8 GB, Linux"
    assert machine_class({}) == "any machine"


@pytest.mark.requirement("R3.5", "R9.7")
def test_the_page_and_the_table_show_every_key_and_escape_names(tmp_path: Path) -> None:
    """Names come from scenarios of others."""
    from rich.console import Console

    runs = [run(n, scenario="<b>[red]mine", figures={"throughput": 900.0 + n, "p99": 0.1}) for n in range(8)]
    found = trends(store_of(tmp_path, runs))
    text = trends_html(found)
    assert "&lt;b&gt;[red]mine" in text
    assert "<b>[red]" not in text
    assert write_trends(found, tmp_path / "out").read_text() == text
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(found))
    assert "<b>[red]mine" in console.export_text()


@pytest.mark.requirement("R3.5")
def test_a_store_that_is_not_there_has_no_trends(tmp_path: Path) -> None:
    """And a page that says so."""
    found = trends(tmp_path / "none")
    assert found.trends == ()
    assert "No run has been recorded yet" in trends_html(found)
    assert header().run_id not in trends_html(found)
