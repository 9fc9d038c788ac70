"""A history becomes a report: every record counted, nothing kept per record."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.verdict import Evidence, Judgement, Status
from rpa_testkit.history.entries import Kind, Phase
from rpa_testkit.history.reader import History
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.reports.build import build
from rpa_testkit.reports.grid import LIMIT, Grid, added, bin_of, percentile

from .support.report_histories import Planted, failed, faults, header, judgement, passed, write_history


@pytest.mark.requirement("R3.5", "R9.7", "R9.2")
def test_every_record_is_in_the_series(tmp_path: Path) -> None:
    """Throughput integrates to the records, however the intervals were merged on the way."""
    history = write_history(tmp_path, records=30_000, pace=120.0)
    report = build(history, judgement())
    assert report.axis.count <= LIMIT
    assert report.axis.width_s == 1.0
    completed = sum((value or 0.0) * report.axis.width_s for value in report.throughput_rps)
    assert completed == pytest.approx(30_000)
    assert (report.counts.found, report.counts.done, report.counts.dead) == (30_000, 29_850, 150)
    assert report.pace_rps == pytest.approx(30_000 / report.duration_s, rel=0.02)


@pytest.mark.requirement("R3.5", "R9.2")
def test_percentiles_are_within_one_per_cent() -> None:
    """Against the sorted values themselves."""
    rand = random.Random(7)
    values = sorted(rand.lognormvariate(-2, 1.2) for _ in range(20_000))
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    for share in (0.5, 0.95, 0.99, 0.999):
        assert percentile(bins, share) == pytest.approx(values[int(share * len(values)) - 1], rel=0.0101)


@pytest.mark.requirement("R3.5")
def test_a_longer_run_makes_wider_intervals_and_loses_nothing() -> None:
    """Ten hours fit into the same number of intervals as ten seconds."""
    grid = Grid()
    layer = grid.layer(added)
    for second in range(36_000):
        layer.put(grid.place(second), 1)
    assert sum(layer.values()) == 36_000
    assert len(layer) <= LIMIT
    assert grid.width_s == 64.0


@pytest.mark.requirement("R3.5", "R9.7")
def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """Four times the records at four times the pace take less than a pointer for each more."""
    peaks = []
    for records, pace in ((20_000, 2_000.0), (80_000, 8_000.0)):
        history = write_history(tmp_path / str(records), records=records, pace=pace)
        tracemalloc.start()
        build(history, judgement())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 8 * 60_000


@pytest.mark.requirement("R3.5", "R9.7")
def test_faults_keep_their_state_their_times_and_their_lines(tmp_path: Path) -> None:
    """Verified, unverified, unhealed and not run are told apart."""
    planted = [
        Planted(id=1, kind="crash", target="worker-1", at_s=2, hold_s=1),
        Planted(id=2, kind="latency", target="worker-1->postgres", at_s=5, hold_s=1, end="unverified"),
        Planted(id=3, kind="cpu", target="worker-2", at_s=8, hold_s=1, end="unhealed"),
        Planted(id=4, kind="clock-skew", target="worker-2", at_s=9, hold_s=1, end="not-run"),
    ]
    history = write_history(tmp_path, records=10_000, planted=planted)
    report = build(history, judgement())
    assert [fault.state for fault in report.faults] == ["verified", "unverified", "unhealed", "not-run"]
    assert [fault.id for fault in report.ran] == [1, 2, 3]
    first = report.faults[0]
    assert (first.inject_s, first.end_s) == (2.0, 3.0)
    lines = {entry.seq: entry for entry in history if entry.kind == Kind.FAULT and entry.key == 1}
    assert first.seq == tuple(lines)
    assert report.faults[3].why.startswith("the process driver cannot do this")


@pytest.mark.requirement("R3.5", "R9.7")
def test_the_axis_begins_with_the_workload(tmp_path: Path) -> None:
    """Starting workers is not drawn; times stay those of the run, and a node's CPU time that shrinks is no restart."""
    writer = HistoryWriter(tmp_path / "history.jsonl", header())
    writer.add("runner", Kind.MARK, "begun", t=11.3)
    for number, cpu_s in enumerate((5.0, 5.2, 4.9, 5.1, 0.1, 0.3)):
        counts = {"done": 0, "dead": 0, "waiting": number, "leased": 0, "connections": 3}
        writer.add(
            "s", Kind.METRIC, "sample", None, {**counts, "nodes": {"postgres": (1, cpu_s, True)}}, t=12.0 + number
        )
    writer.add("o", Kind.OUTCOME, "record", 0, (1, 1, 0, 0, "w", "w", 12.1, 14.1), t=18.0)
    writer.add("runner", Kind.MARK, "ended", t=19.0)
    writer.close()
    report = build(History.open(tmp_path), judgement())
    assert report.axis.start_s == 11.25
    assert report.axis.end_s == pytest.approx(19.25)
    assert [place for place, rate in enumerate(report.throughput_rps) if rate] == [int((14.1 - 11.25) / 0.25)]
    assert report.waiting[int((12.0 - 11.25) / 0.25)] == 0
    assert report.axis.share(15.25) == pytest.approx(0.5)
    assert report.nodes[0].restarts == (16.0,)


@pytest.mark.requirement("R3.5")
def test_a_scheduled_fault_that_never_came_is_reported(tmp_path: Path) -> None:
    """The run ended first: it is not run, with that reason."""
    writer = HistoryWriter(tmp_path / "history.jsonl", header())
    writer.add("runner", Kind.OBSERVE, "schedule", None, [[1, "crash"], [2, "pause"]], t=0.0)
    writer.add("injector", Kind.FAULT, Phase.NOT_RUN, 1, {"kind": "crash", "target": "worker-1", "why": "no"}, t=1.0)
    writer.add("runner", Kind.MARK, "ended", t=2.0)
    writer.close()
    report = build(History.open(tmp_path), judgement())
    assert [(fault.id, fault.state) for fault in report.faults] == [(1, "not-run"), (2, "not-run")]
    assert "before it came" in report.faults[1].why


@pytest.mark.requirement("R3.5")
def test_recovery_is_the_checkers_own_figure(tmp_path: Path) -> None:
    """What the page shows per fault is what the recovery checker measured."""
    history = write_history(tmp_path, records=20_000, planted=faults(5, 3, until_s=30))
    judged = judge(history, ["recovery"])
    told = {fault["id"]: fault["recovery_s"] for fault in judged.verdicts[0].figures["faults"]}
    assert len([value for value in told.values() if value is not None]) >= 3
    assert {fault.id: fault.recovery_s for fault in build(history, judged).ran} == told


@pytest.mark.requirement("R3.5", "R9.2")
def test_recovery_is_measured_where_no_checker_did(tmp_path: Path) -> None:
    """A database that was away for four seconds: back at its pace about two seconds after it."""
    planted = [Planted(id=1, kind="postgres-crash", target="postgres", at_s=10, hold_s=4)]
    history = write_history(tmp_path, records=15_000, planted=planted)
    recovery_s = build(history, judgement(passed("no-lost"))).ran[0].recovery_s
    assert recovery_s is not None
    assert 0.5 <= recovery_s <= 3.0


@pytest.mark.requirement("R3.5")
def test_lost_and_twice_are_the_checkers_or_counted(tmp_path: Path) -> None:
    """The page never says something else than the verdict beside it."""
    history = write_history(tmp_path, records=2_000, twice=[7, 8], missing=[9])
    counted = build(history, judgement(passed("recovery"))).counts
    assert (counted.lost, counted.twice) == (1, 2)
    judged = judge(history, ["no-lost", "no-duplicates"])
    counted = build(history, judged).counts
    assert (counted.lost, counted.twice) == (1, 2)


@pytest.mark.requirement("R3.5", "R9.7")
def test_a_cut_off_history_is_reported_as_such_and_never_passes(tmp_path: Path) -> None:
    """As far as it goes; what cannot be told is not told as none."""
    history = write_history(tmp_path, records=2_000)
    content = history.path.read_bytes()
    history.path.write_bytes(content[: len(content) // 3])
    report = build(history, judgement(passed("recovery")))
    assert report.status is Status.UNKNOWN
    assert "cannot be read" in report.cut_off
    assert (report.counts.lost, report.counts.twice) == (None, None)


@pytest.mark.requirement("R3.5")
def test_a_report_without_a_verdict_is_unknown(tmp_path: Path) -> None:
    """Nothing was judged."""
    report = build(write_history(tmp_path, records=100), Judgement(run_id="x", verdicts=()))
    assert report.status is Status.UNKNOWN


@pytest.mark.requirement("R3.5", "R9.7")
def test_the_history_around_a_violation_is_near_it_and_bounded(tmp_path: Path) -> None:
    """What broke comes before what went on as usual; the lines named are there and marked, others are counted."""
    planted = [
        Planted(id=n, kind="reset", target="worker-1->postgres", at_s=8 + n * 0.05, hold_s=0.02) for n in range(40)
    ]
    history = write_history(tmp_path, records=10_000, planted=planted, twice=[4_000])
    cited = next(entry.seq for entry in history if entry.kind == Kind.OUTCOME and entry.key == 4_000)
    verdict = failed("no-duplicates", "record 4000 has 2 effects", Evidence(says="2 effects", t=9.0, seq=(cited,)))
    (excerpt,) = build(history, judgement(verdict, passed("no-lost"))).excerpts
    assert [line.seq for line in excerpt.lines if line.cited] == [cited]
    near = [line for line in excerpt.lines if not line.cited]
    assert 20 <= len(near) <= 32
    assert all(abs(line.t - 9.0) <= 5.0 for line in near)
    assert sum(line.what.startswith("fault") for line in near) == 24
    within = sum(abs(entry.t - 9.0) <= 5.0 for entry in history if entry.kind != Kind.OUTCOME)
    assert excerpt.left_out == within - len(near)
