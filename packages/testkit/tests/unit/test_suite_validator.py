"""TestValidator on histories of known content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit import Minima, TestValidator
from rpa_testkit.history.entries import Header, Kind
from rpa_testkit.history.reader import HISTORY, HistoryError
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.suite.measure import measure

_GOOD = [("", ["result", 8, 0, ["t0"]]), ("retry", ["result", 1, 0, ["t8"]]), ("reject", ["rejected", 1, 0, ["t9"]])]


def _run(
    folder: Path,
    *,
    name: str = "run-1",
    twice: int = 0,
    took_s: float = 0.01,
    records: int = 10,
    ended: Sequence[tuple[str, list[Any]]] = _GOOD,
    exits: Sequence[dict[str, Any]] = (),
    cut: bool = False,
    first: int = 0,
) -> Path:
    """A run of `records` records at 1,000/s by two workers, of which the last is a dead letter."""
    run = folder / name
    run.mkdir(parents=True)
    header = Header(
        run_id=name,
        scenario="made-up",
        driver="process",
        seed=1,
        started_at="2026-01-01T00:00:00+00:00",
        workload={"flow": "probe", "payload": None, "records": records},
        topology={"nodes": ["worker-1", "worker-2", "postgres"]},
    )
    writer = HistoryWriter(run / HISTORY, header)
    writer.add("runner", Kind.MARK, "begun", t=0.0)
    writer.add("producer-1", Kind.INVOKE, "enqueue", first, records, t=0.0)
    writer.add("producer-1", Kind.OK, "enqueue", first, records, t=0.001)
    for number, cpu_s in enumerate((1.0, 1.5)):
        nodes = {
            "worker-1": [50_000_000, cpu_s, True],
            "worker-2": [70_000_000, cpu_s, True],
            "postgres": [9, 9.0, True],
        }
        sample = {"done": number * records, "dead": 0, "waiting": 0, "leased": 0, "connections": 2, "nodes": nodes}
        writer.add("sampler", Kind.METRIC, "sample", None, sample, t=0.1 + number)
    for exit_ in exits:
        writer.add("sampler", Kind.NODE, "exited", "worker-1", exit_, t=1.5)
    writer.add("runner", Kind.MARK, "drained", t=2.0)
    for serial in range(records):
        dead = int(serial == records - 1)
        results = (2 if serial < twice else 1) if not dead else 0
        worker = f"worker-{1 + serial % 2}"
        enqueued = serial / 1000
        row = (results, results, dead, 0, worker, worker, enqueued, enqueued + took_s)
        writer.add("observer", Kind.OUTCOME, "record", first + serial, row, t=2.1)
    for asked, value in ended:
        writer.add("observer", Kind.OBSERVE, "ended", asked, value, t=2.2)
    if not cut:
        writer.add("runner", Kind.MARK, "ended", t=2.3)
    writer.close()
    return run


@pytest.mark.requirement("R3.1", "R9.1")
def test_what_happened_once_is_valid(tmp_path: Path) -> None:
    """With the number of records that were looked at."""
    result = TestValidator(_run(tmp_path)).validate_no_duplicate_processing()
    assert result.valid
    assert result.figures == {"records": 10, "duplicates": 0}


@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("first", [1_024, 20_000])
def test_records_may_be_seen_in_any_order(tmp_path: Path, first: int) -> None:
    """The first that is looked at need not be record 0."""
    result = TestValidator(_run(tmp_path, first=first)).validate_no_duplicate_processing()
    assert result.valid, result.unknown


@pytest.mark.requirement("R3.1", "R9.1")
def test_a_second_result_is_a_violation_of_its_run(tmp_path: Path) -> None:
    """Also where another run is in order."""
    runs = [_run(tmp_path), _run(tmp_path, name="run-2", twice=2)]
    result = TestValidator(runs).validate_no_duplicate_processing()
    assert not result.valid
    assert result.figures["duplicates"] == 2
    assert [says.partition(":")[0] for says in result.violations] == ["run-2", "run-2"]


@pytest.mark.requirement("R3.1")
def test_what_cannot_be_told_is_not_valid(tmp_path: Path) -> None:
    """A history that was cut off, and a run without a record."""
    cut = TestValidator(_run(tmp_path, cut=True)).validate_no_duplicate_processing()
    none = TestValidator(_run(tmp_path, name="none", records=0)).validate_no_duplicate_processing()
    assert (cut.valid, none.valid) == (False, False)
    assert "cut off" in cut.unknown[0]
    assert "no record" in none.unknown[-1]


@pytest.mark.requirement("R3.2", "R9.2")
def test_figures_are_those_of_the_history(tmp_path: Path) -> None:
    """1,000 records/s for a hundredth of a second, 10 ms each, 10 records in one CPU second of the workers."""
    result = TestValidator(_run(tmp_path)).validate_performance_metrics(Minima(error_rate=0.1))
    assert result.valid, result.violations
    assert result.metrics.records_processed == 10
    assert result.metrics.processing_rate == pytest.approx(10 / 0.019)
    assert result.metrics.average_latency == pytest.approx(0.01)
    assert result.metrics.error_rate == pytest.approx(0.1)
    assert result.metrics.resource_efficiency == pytest.approx(10.0)
    assert result.latency_s["p99"] == pytest.approx(0.01)


@pytest.mark.requirement("R3.2", "R9.2")
@pytest.mark.parametrize(
    ("minima", "says"),
    [
        (Minima(rate=600, error_rate=0.1), "at least 600"),
        (Minima(p99_s=0.009, error_rate=0.1), "p99 latency"),
        (Minima(), "have no result"),
        (Minima(efficiency=11, error_rate=0.1), "per CPU second"),
        (Minima(peak_rss_bytes=60_000_000, error_rate=0.1), "held 70000000 bytes"),
    ],
)
def test_each_minimum_is_judged(tmp_path: Path, minima: Minima, says: str) -> None:
    """What is not reached is said, and nothing else."""
    result = TestValidator(_run(tmp_path)).validate_performance_metrics(minima)
    assert not result.valid
    assert [says in violation for violation in result.violations] == [True]


@pytest.mark.requirement("R9.2")
def test_less_than_a_hundred_a_second_is_never_enough(tmp_path: Path) -> None:
    """Whatever the caller asks for."""
    result = TestValidator(_run(tmp_path, took_s=1.0)).validate_performance_metrics(Minima(rate=1, error_rate=0.1))
    assert result.violations == ("run-1: 9.9 records/s; at least 100 are asked for",)


@pytest.mark.requirement("R3.2")
def test_a_restarted_workers_cpu_time_begins_anew(tmp_path: Path) -> None:
    """A counter that went backwards counts from 0."""
    run = _run(tmp_path)
    text = (run / HISTORY).read_text().replace('"worker-1":[50000000,1.5,true]', '"worker-1":[50000000,0.25,true]')
    (run / HISTORY).write_text(text)
    assert measure(TestValidator(run).histories[0]).cpu_s["worker-1"] == pytest.approx(0.25)


@pytest.mark.requirement("R3.3")
def test_errors_that_ended_as_they_should_are_valid(tmp_path: Path) -> None:
    """Rejected records are dead letters, retried ones have results."""
    result = TestValidator(_run(tmp_path)).validate_error_handling()
    assert result.valid
    assert (result.rejected, result.retried, result.dead, result.exits) == (1, 1, 1, 0)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (
            [("reject", ["result", 3, 0, ["t1", "t2", "t3"]])],
            "3 records that asked to reject ended as result: t1, t2, t3",
        ),
        ([("", ["crash", 1, 0, ["t1"]])], "1 records that asked for nothing ended as crash: t1"),
        ([("retry", ["exhausted", 7, 0, ["t1"]])], "ended as exhausted: t1 and 6 more"),
        ([("", ["open", 1, 0, ["t1"]])], "1 records have no outcome: t1"),
        ([("reject", ["rejected", 2, 2, ["t1", "t2"]])], "2 dead letters of kind rejected have no reason"),
    ],
)
def test_errors_that_ended_otherwise_are_violations(
    tmp_path: Path, ended: list[tuple[str, list[Any]]], says: str
) -> None:
    """Each is named with its records."""
    result = TestValidator(_run(tmp_path, ended=ended)).validate_error_handling()
    assert not result.valid
    assert says in result.violations[0]


@pytest.mark.requirement("R3.3")
def test_an_exit_that_nobody_caused_is_a_violation(tmp_path: Path) -> None:
    """One that asked for a new start is none."""
    exits = [{"code": 75, "expected": True}, {"code": 1, "expected": False}]
    result = TestValidator(_run(tmp_path, exits=exits)).validate_error_handling()
    assert result.exits == 1
    assert result.violations == ("run-1: worker-1 ended by itself with 1",)


@pytest.mark.requirement("R3.3")
def test_a_history_that_does_not_say_how_records_ended_is_unknown(tmp_path: Path) -> None:
    """And unknown is not valid."""
    result = TestValidator(_run(tmp_path, ended=[])).validate_error_handling()
    assert not result.valid
    assert result.unknown


@pytest.mark.requirement("R3.5", "R9.7")
def test_a_report_is_written_beside_the_history(tmp_path: Path) -> None:
    """JUnit, JSON, Markdown and a page for each run."""
    one, other = TestValidator([_run(tmp_path), _run(tmp_path, name="run-2", twice=1)]).generate_test_reports()
    assert one.verdicts["no-duplicates"].startswith("pass")
    assert other.verdicts["no-duplicates"] == "fail: record 0 has 2 results"
    assert other.status == "failed"
    for report in (one, other):
        assert {path.name for path in report.files} == {"junit.xml", "report.json", "report.md", "report.html"}
        assert all(path.parent == tmp_path / report.run_id and path.stat().st_size for path in report.files)


@pytest.mark.requirement("R3.5")
def test_there_must_be_a_run(tmp_path: Path) -> None:
    """An empty folder is none, and neither is an empty list."""
    with pytest.raises(HistoryError, match="no history"):
        TestValidator(tmp_path)
    with pytest.raises(ValueError, match="no run"):
        TestValidator([])
