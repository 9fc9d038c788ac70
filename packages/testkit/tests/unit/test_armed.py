"""Arming checkpoints."""

from __future__ import annotations

import pytest

from rpa_core.checkpoints import Point
from rpa_testkit.armed import Action, Arm, ArmedCheckpoints, parse, reached_line


@pytest.mark.requirement("R3.3", "R9.3")
def test_what_is_armed_reads_back_as_written() -> None:
    """Text and value say the same."""
    text = "results-written:2:kill,claimed:1:stop"
    arms = parse(text)
    assert arms == (
        Arm(point=Point.RESULTS_WRITTEN, nth=2, action=Action.KILL),
        Arm(point=Point.CLAIMED, nth=1, action=Action.STOP),
    )
    assert ",".join(map(str, arms)) == text


@pytest.mark.requirement("R3.3", "R9.3")
@pytest.mark.parametrize("text", ["nowhere:1:kill", "claimed:0:kill", "claimed:x:kill", "claimed:1:explode", "claimed"])
def test_a_fault_that_could_never_land_is_refused(text: str) -> None:
    """A misspelt checkpoint is an error, not a test without a fault."""
    with pytest.raises(ValueError, match="RPA_TESTKIT_CHECKPOINT"):
        parse(text)


@pytest.mark.requirement("R3.3", "R9.3")
def test_only_the_nth_time_at_the_point_counts() -> None:
    """Other points and other times pass by."""

    class Recorded(ArmedCheckpoints):
        done: list[Arm]

        def __init__(self, arms: tuple[Arm, ...]) -> None:
            super().__init__(arms)
            self.done = []

        def _do(self, arm: Arm) -> None:
            self.done.append(arm)

    (arm,) = parse("committed:2:block")
    checkpoints = Recorded((arm,))
    seen = []
    for point in [Point.COMMITTED, Point.CLAIMED, Point.COMMITTED, Point.COMMITTED]:
        checkpoints.reach(point)
        seen.append(len(checkpoints.done))
    assert seen == [0, 0, 1, 1]
    assert reached_line(arm) == "rpa-testkit: reached committed:2:block"
