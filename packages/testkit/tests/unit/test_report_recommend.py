"""Each rule of the recommendations on a run that gives it cause, and none on a run that gives no cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.checkers.verdict import Evidence
from rpa_testkit.history.entries import Header, Kind
from rpa_testkit.history.reader import History
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.reports.build import build
from rpa_testkit.reports.families import FAMILIES
from rpa_testkit.reports.model import Advice

from .support.report_histories import Planted, failed, header, judgement, passed, write_history

Line = tuple[float, Kind, str, Any, Any]
_STEP_S = 0.5


def _samples(seconds: float, **given: Callable[[float], Any]) -> Iterable[Line]:
    """A sample every half second; `given` are functions of its time, `rss` and `cpu_s` those of the one node."""
    for number in range(int(seconds / _STEP_S)):
        t = number * _STEP_S
        seen = {name: value(t) for name, value in given.items()}
        node = (seen.pop("rss", 90 << 20), seen.pop("cpu_s", 0.2 * t), True)
        counts = {"done": 0, "dead": 0, "waiting": 5, "leased": 5, "connections": 9, **seen}
        yield t, Kind.METRIC, "sample", None, {**counts, "nodes": {"worker-1": node}}


def _outcomes(records: int, seconds: float, dead: int = 0) -> Iterable[Line]:
    for serial in range(records):
        done = seconds * (serial + 1) / records
        bad = int(serial < dead)
        yield seconds, Kind.OUTCOME, "record", serial, (1 - bad, 1 - bad, bad, 0, "w", "w", round(done - 0.02, 4), done)


def _marks(**at: float) -> Iterable[Line]:
    for name, t in at.items():
        yield t, Kind.MARK, name.replace("_", "-"), None, None


def _advice(folder: Path, *parts: Iterable[Line], head: Header | None = None) -> dict[str, Advice]:
    """Of a history made of these lines."""
    writer = HistoryWriter(folder / "history.jsonl", head or header())
    lines = sorted((line for part in parts for line in part), key=lambda line: line[0])
    for t, kind, op, key, value in [*lines, *_marks(ended=lines[-1][0])]:
        writer.add("test", kind, op, key, value, t=t)
    writer.close()
    return _rules(History.open(folder))


def _rules(history: History, *verdicts: Any) -> dict[str, Advice]:
    report = build(history, judgement(*verdicts))
    known = {entry.seq for entry in history}
    for advice in report.advice:
        assert advice.figures or advice.seq, f"{advice.rule} shows nothing for itself"
        assert set(advice.seq) <= known
    return {advice.rule: advice for advice in report.advice}


@pytest.mark.requirement("R3.5", "R9.7")
def test_a_clean_run_is_given_no_advice(tmp_path: Path) -> None:
    """Faults that were verified, recovered from and cost little are no cause."""
    planted = [Planted(id=n, kind="cpu", target="worker-1", at_s=4.0 * n, hold_s=1) for n in range(1, 6)]
    history = write_history(tmp_path, records=20_000, planted=planted)
    told = [{"id": n, "recovery_s": 1.2} for n in range(1, 6)]
    assert _rules(history, passed("recovery", faults=told)) == {}


@pytest.mark.requirement("R3.5", "R9.7")
@pytest.mark.parametrize(
    ("end", "rule"),
    [("unverified", "fault-without-effect"), ("unhealed", "fault-not-healed"), ("not-run", "fault-not-run")],
)
def test_faults_that_did_not_go_as_planned(tmp_path: Path, end: str, rule: str) -> None:
    """Each names the kind and its lines."""
    planted = [Planted(id=1, kind="bandwidth", target="worker-1->postgres", at_s=4, hold_s=1, end=end)]
    advice = _rules(write_history(tmp_path, records=5_000, planted=planted))
    assert list(advice) == [rule]
    assert "bandwidth" in advice[rule].advice
    assert advice[rule].seq


@pytest.mark.requirement("R3.5")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_of_faults_has_something_to_check(tmp_path: Path, family: str) -> None:
    """Unverified or slow, whatever it struck."""
    kind, target = {
        "process": ("pause", "worker-1"),
        "network": ("latency", "worker-1->postgres"),
        "database": ("read-only", "postgres"),
        "resources": ("disk-full", "worker-1"),
        "dependency": ("dependency-away", "prefect"),
    }[family]
    planted = [Planted(id=1, kind=kind, target=target, at_s=4, hold_s=1, end="unverified")]
    assert "fault-without-effect" in _rules(write_history(tmp_path, records=5_000, planted=planted))


@pytest.mark.requirement("R3.5")
def test_recovery_longer_than_the_longest_lease_seen(tmp_path: Path) -> None:
    """The slowest is named; one that is faster than a lease is no cause."""
    planted = [
        Planted(id=1, kind="crash", target="worker-1", at_s=4, hold_s=1),
        Planted(id=2, kind="pause", target="worker-2", at_s=12, hold_s=1),
    ]
    history = write_history(tmp_path, records=20_000, planted=planted, lease_s=10.0)
    told = [{"id": 1, "recovery_s": 3.0}, {"id": 2, "recovery_s": 11.5}]
    advice = _rules(history, passed("recovery", faults=told))["recovery-longer-than-lease"]
    assert "fault 2 (pause on worker-2), 11.5 s" in advice.seen
    assert advice.figures["faults"] == 1


@pytest.mark.requirement("R3.5", "R9.2")
def test_a_spike_of_p99_is_told_by_the_kind_that_caused_it(tmp_path: Path) -> None:
    """PostgreSQL's crashes slow records down thirtyfold here; CPU starvation does not."""
    planted = [
        Planted(id=1, kind="postgres-crash", target="postgres", at_s=6, hold_s=2),
        Planted(id=2, kind="cpu", target="worker-1", at_s=16, hold_s=2),
        Planted(id=3, kind="postgres-crash", target="postgres", at_s=26, hold_s=2),
    ]
    advice = _rules(write_history(tmp_path, records=20_000, planted=planted))
    assert list(advice) == ["latency-spike"]
    assert advice["latency-spike"].advice.startswith("Under postgres-crash")
    assert advice["latency-spike"].figures["ratio"] > 5


@pytest.mark.requirement("R3.5", "R9.2")
def test_a_spike_under_two_faults_is_blamed_on_neither(tmp_path: Path) -> None:
    """Which of them it was cannot be told."""
    planted = [
        Planted(id=1, kind="postgres-crash", target="postgres", at_s=6, hold_s=2),
        Planted(id=2, kind="cpu", target="worker-1", at_s=7, hold_s=2),
    ]
    assert _rules(write_history(tmp_path, records=10_000, planted=planted)) == {}


@pytest.mark.requirement("R3.5")
@pytest.mark.parametrize(("t", "expected"), [(5.0, True), (3.9, False)])
def test_duplicates_after_kills_ask_for_an_idempotency_key(tmp_path: Path, t: float, *, expected: bool) -> None:
    """Only when every duplicate shown came after a worker's end."""
    planted = [Planted(id=1, kind="crash", target="worker-1", at_s=4, hold_s=1)]
    history = write_history(tmp_path, records=5_000, planted=planted)
    verdict = failed("no-duplicates", "2 effects", Evidence(says="2 effects", t=t, seq=(9,)))
    advice = _rules(history, verdict)
    assert ("twice-after-kills" in advice) is expected
    if expected:
        assert "idempotency key" in advice["twice-after-kills"].advice
        assert 9 in advice["twice-after-kills"].seq


@pytest.mark.requirement("R3.5")
def test_a_fault_after_the_last_record_asks_for_more_work(tmp_path: Path) -> None:
    """The work was over by then."""
    planted = [Planted(id=1, kind="crash", target="worker-1", at_s=30, hold_s=1)]
    advice = _rules(write_history(tmp_path, records=2_000, planted=planted))
    assert "1 fault met no work" in advice["fault-beside-the-work"].seen


@pytest.mark.requirement("R3.5", "R9.2")
def test_memory_that_grows_and_memory_that_does_not(tmp_path: Path) -> None:
    """From quarter to quarter of one life; a restart begins another."""
    grows = _advice(tmp_path, _samples(60, rss=lambda t: (80 << 20) + int(t * (2 << 20))))
    assert "worker-1 grew from" in grows["memory-grows"].seen
    (tmp_path / "restarts").mkdir()
    each = 10.0
    restarts = _samples(
        60, rss=lambda t: (80 << 20) + int((t % each) * (9 << 20)), cpu_s=lambda t: round(0.3 * (t % each), 3)
    )
    assert _advice(tmp_path / "restarts", restarts) == {}


@pytest.mark.requirement("R3.5", "R9.2")
def test_a_worker_that_computes_all_the_time(tmp_path: Path) -> None:
    """0.97 cores of one."""
    advice = _advice(tmp_path, _samples(30, cpu_s=lambda t: 0.97 * t))
    assert list(advice) == ["cpu-bound"]
    assert advice["cpu-bound"].figures["worker-1"] == pytest.approx(0.97)


@pytest.mark.requirement("R3.5")
@pytest.mark.parametrize(("limit", "expected"), [(100, True), (200, False), (None, False)])
def test_connections_near_the_servers_limit(tmp_path: Path, limit: int | None, *, expected: bool) -> None:
    """Where the limit is known."""
    head = header(topology={"max_connections": limit} if limit else {})
    advice = _advice(tmp_path, _samples(10, connections=lambda t: 85), head=head)
    assert ("connections-near-limit" in advice) is expected


@pytest.mark.requirement("R3.5", "R9.2")
def test_a_backlog_that_grows_without_any_fault(tmp_path: Path) -> None:
    """With a rate; a workload that is enqueued at once has a backlog by design."""
    grows = [*_samples(20, waiting=lambda t: int(50 * t)), *_outcomes(1_000, 20)]
    advice = _advice(tmp_path, grows, head=header(workload={"rate": 100.0}))
    assert list(advice) == ["backlog-before-faults"]
    assert _advice(tmp_path, grows, head=header(workload={"rate": 0.0})) == {}


@pytest.mark.requirement("R3.5", "R9.2")
@pytest.mark.parametrize(("marks", "expected"), [({"drained": 45.0}, True), ({"drained": 20.0}, False), ({}, True)])
def test_a_slow_drain(tmp_path: Path, marks: dict[str, float], *, expected: bool) -> None:
    """More than half of the 60 s allowed, or no end at all."""
    advice = _advice(tmp_path, _samples(60), _marks(healed=10.0, **marks))
    assert ("slow-drain" in advice) is expected


@pytest.mark.requirement("R3.5", "R9.2")
@pytest.mark.parametrize(("dead", "expected"), [(60, True), (25, False)])
def test_more_dead_letters_than_chance_explains(tmp_path: Path, dead: int, *, expected: bool) -> None:
    """Of 4,000 records at 0.5 %, 20 are expected."""
    advice = _advice(tmp_path, _outcomes(4_000, 20, dead=dead))
    assert ("more-dead-letters" in advice) is expected


@pytest.mark.requirement("R3.5")
def test_workers_that_ended_on_their_own(tmp_path: Path) -> None:
    """An end under a fault that has hold of the worker is no cause, nor one that was asked for."""
    ends: list[Line] = [
        (3.0, Kind.FAULT, "inject", 1, {"kind": "crash", "target": "worker-1"}),
        (3.5, Kind.NODE, "exited", "worker-1", {"code": -9, "expected": False}),
        (4.0, Kind.FAULT, "verified", 1, {"kind": "crash", "target": "worker-1"}),
        (5.0, Kind.FAULT, "healed", 1, {"kind": "crash", "target": "worker-1"}),
        (8.0, Kind.NODE, "exited", "worker-2", {"code": 75, "expected": True}),
    ]
    assert "worker-ended" not in _advice(tmp_path, ends, _outcomes(2_000, 20))
    ends.append((9.0, Kind.NODE, "exited", "worker-2", {"code": 1, "expected": False}))
    ends.append((9.5, Kind.NODE, "oom", "worker-2", {}))
    advice = _advice(tmp_path, ends, _outcomes(2_000, 20))
    assert "worker-2 ended on its own, 1 time, first at 9 s" in advice["worker-ended"].seen
    assert "killed-for-memory" in advice


@pytest.mark.requirement("R3.5", "R9.2")
def test_a_pace_below_the_minimum(tmp_path: Path) -> None:
    """The steady state's own bar."""
    advice = _advice(tmp_path, _outcomes(1_000, 20), head=header(steady_state={"min_rate": 100.0}, workload={}))
    assert advice["pace-below-minimum"].figures["pace_rps"] == pytest.approx(50, rel=0.01)
