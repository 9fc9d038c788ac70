"""Recovery and rate on runs whose numbers are plain enough to know the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rpa_testkit.checkers.judge import judge_entries
from rpa_testkit.checkers.verdict import Status, Verdict
from rpa_testkit.history.entries import Entry, Header

from .support.histories import clean

HEADER = Header(
    run_id="r", scenario="s", driver="process", seed=1, started_at="", steady_state={"recovery_s": 5.0, "min_rate": 0.0}
)
PHASES = ("inject", "injected", "verified", "heal", "healed")
Pace = Callable[[float], float]


def _judged(
    faults: Sequence[tuple[float, float]],
    pace: Pace,
    *,
    until: float = 40.0,
    arrivals: Pace | None = None,
    left: int = 1_000_000,
    drained: bool = False,
    unhealed: bool = False,
) -> Verdict:
    """Samples twice a second of work done at `pace`; `left` records are there from the start, more come as told."""
    lines: list[tuple[float, str, str, Any, Any]] = [(0.0, "mark", "begun", None, None)]
    done, came = 0.0, float(left)
    for step in range(int(2 * until)):
        t = step / 2
        value = {"done": int(done), "dead": 0, "waiting": max(0, int(came) - int(done)), "leased": 0}
        lines.append((t, "metric", "sample", None, value))
        came += arrivals(t) / 2 if arrivals else 0.0
        done = min(came, done + pace(t) / 2)
    for number, (inject, healed) in enumerate(faults, 1):
        for phase in PHASES[: 4 if unhealed else 5]:
            at = healed if phase == "healed" else inject
            lines.append((at, "fault", phase, number, {"kind": "pause", "target": "worker-1"}))
    lines += [(until, "mark", mark, None, None) for mark in (["drained"] if drained else []) + ["ended"]]
    lines.sort(key=lambda line: line[0])
    entries = [Entry(seq, line[0], "a", *line[1:]) for seq, line in enumerate(lines, 1)]
    (verdict,) = judge_entries(HEADER, entries, ("recovery",)).verdicts
    return verdict


def _steps(*steps: tuple[float, float]) -> Pace:
    """The pace of the last step begun."""
    return lambda t: [pace for since, pace in steps if t >= since][-1]


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    ("pace", "status", "took_s"),
    [
        (_steps((0, 100), (10, 0), (12, 100)), "pass", 0.0),
        (_steps((0, 100), (10, 0), (15, 100)), "pass", 3.0),
        (_steps((0, 100), (10, 0), (12, 50), (15, 91)), "pass", 3.0),
        (_steps((0, 100), (10, 0), (18, 100)), "fail", 6.0),
        (_steps((0, 100), (10, 0), (12, 89)), "fail", None),
        (_steps((0, 100), (10, 0)), "fail", None),
        (_steps((0, 10), (3, 100)), "pass", 0.0),
    ],
)
def test_time_until_the_pace_before_the_fault_is_back(pace: Pace, status: str, took_s: float | None) -> None:
    """The fault is there from 10 to 12 s; the bound is 5 s after it."""
    verdict = _judged([(10.0, 12.0)], pace)
    assert verdict.status == status
    assert verdict.figures["faults"][0]["recovery_s"] == took_s
    assert verdict.figures["faults"][0]["baseline_per_s"] == 100.0


@pytest.mark.requirement("R3.3")
def test_the_latest_undisturbed_seconds_count() -> None:
    """A slow beginning lowers nothing."""
    verdict = _judged([(32.0, 33.0)], _steps((0, 20), (20, 100), (33, 30)))
    assert verdict.status is Status.FAIL
    assert verdict.figures["faults"][0]["baseline_per_s"] == 100.0


@pytest.mark.requirement("R3.3")
def test_overlapping_faults_are_judged_from_the_last_healing() -> None:
    """And so is one that comes before work went on after the one before it."""
    pace = _steps((0, 100), (10, 0), (20, 100))
    for faults in ([(10.0, 14.0), (12.0, 16.0)], [(10.0, 14.0), (15.0, 16.0)]):
        verdict = _judged(faults, pace)
        assert verdict.status is Status.PASS
        assert [fault["recovery_s"] for fault in verdict.figures["faults"]] == [4.0, 4.0]
    late = _judged([(10.0, 11.0), (18.0, 19.0)], pace)
    assert late.status is Status.FAIL
    assert [fault["recovery_s"] for fault in late.figures["faults"]] == [None, 1.0]


@pytest.mark.requirement("R3.3")
def test_keeping_up_with_what_comes_is_enough() -> None:
    """There is less to do than before the fault, and it is done; with a backlog it would be too slow."""
    pace = _steps((0, 100), (10, 0), (12, 100))
    arrivals = _steps((0, 100), (10, 30))
    assert _judged([(10.0, 12.0)], pace, arrivals=arrivals, left=0).status is Status.PASS
    slow = _steps((0, 100), (10, 0), (12, 30))
    assert _judged([(10.0, 10.5)], slow, arrivals=_steps((0, 100), (10, 25)), left=0).status is Status.PASS
    assert _judged([(10.0, 12.0)], slow, arrivals=arrivals, left=500).status is Status.FAIL


@pytest.mark.requirement("R3.3")
def test_a_fault_before_any_undisturbed_second_is_compared_with_what_follows() -> None:
    """What crawls for as long as the bound has not recovered, though nothing was faster before."""
    verdict = _judged([(0.2, 1.0)], _steps((0, 0), (1, 2), (12, 100)))
    assert verdict.status is Status.FAIL
    assert verdict.figures["faults"][0]["recovery_s"] == 11.0


@pytest.mark.requirement("R3.3")
def test_a_system_that_never_works_has_not_recovered() -> None:
    """There is no pace to compare with, and none is reached."""
    assert _judged([(0.2, 1.0)], lambda _: 0.0).status is Status.FAIL


@pytest.mark.requirement("R3.3")
def test_what_was_not_seen_is_unknown() -> None:
    """A fault without its healing, and a run that ended before its bound; done is done, though."""
    pace = _steps((0, 100), (10, 0))
    unhealed = _judged([(10.0, 12.0)], pace, unhealed=True)
    assert unhealed.status is Status.UNKNOWN
    assert "was never healed" in unhealed.says
    assert _judged([(10.0, 12.0)], pace, until=14.0).status is Status.UNKNOWN
    assert _judged([(10.0, 12.0)], pace, until=14.0, drained=True).status is Status.PASS


@pytest.mark.requirement("R3.2")
def test_rate_counts_what_has_an_outcome_until_the_last_of_it() -> None:
    """From `begun`; a minimum just reached passes and one just missed fails."""
    world = clean(11)
    outcomes = [entry.value for entry in world.entries if entry.kind == "outcome"]
    begun = next(entry.t for entry in world.entries if entry.op == "begun")
    rate = len(outcomes) / (max(outcome.done for outcome in outcomes) - begun)
    unfinished = outcomes[0]._replace(results=0, chunks=1, done=None)
    world.entries.append(world.entries[-1]._replace(kind="outcome", op="record", key=9_999, value=unfinished))
    for least, status in ((rate - 0.01, Status.PASS), (rate + 0.01, Status.FAIL)):
        header = replace(world.header, steady_state={"min_rate": least})
        (verdict,) = judge_entries(header, world.entries, ("rate",)).verdicts
        assert verdict.status is status
        assert verdict.figures["records_per_s"] == pytest.approx(rate, abs=0.001)
