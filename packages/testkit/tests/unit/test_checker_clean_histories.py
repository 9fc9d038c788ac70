"""Runs in which nothing went wrong pass every checker."""

from __future__ import annotations

import pytest

from rpa_testkit.checkers.judge import judge_entries

from .support.histories import clean


@pytest.mark.requirement("R3.1", "R9.1")
def test_a_thousand_clean_histories_give_no_false_alarm() -> None:
    """Every checker passes every one of them; unknown would be a false alarm too."""
    alarms = [
        (seed, verdict.checker, verdict.status, verdict.says)
        for seed in range(1_000)
        for world in [clean(seed)]
        for verdict in judge_entries(world.header, world.entries).verdicts
        if verdict.status != "pass"
    ]
    assert alarms == []
