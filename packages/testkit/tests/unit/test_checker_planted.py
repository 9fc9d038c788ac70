"""Every planted violation is noticed by the checker that it is for."""

from __future__ import annotations

from functools import cache

import pytest

from rpa_testkit.checkers.judge import CHECKERS, judge_entries
from rpa_testkit.checkers.verdict import Status, Verdict

from .support import delivery_violations, fault_violations, violations
from .support.histories import World, clean
from .support.planting import Planted

PLANTED = (*violations.catalogue(), *fault_violations.catalogue(), *delivery_violations.catalogue())
SEEDS = range(40)

_clean = cache(clean)


def _judged(world: World, checker: str) -> Verdict:
    (verdict,) = judge_entries(world.header, world.entries, (checker,)).verdicts
    return verdict


@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.checker}: {planted.name}")
def test_planted_violation_is_noticed(planted: Planted) -> None:
    """In each of many histories, and with evidence that leads to it."""
    for seed in SEEDS:
        world = _clean(seed)
        before = _judged(world, planted.checker)
        after = _judged(planted.in_(world, seed), planted.checker)
        assert before.status is Status.PASS, (seed, before.says)
        assert after.status is planted.status, (seed, after.says)
        assert after.evidence, seed
        assert (after.found > 0) is (planted.status is Status.FAIL)


@pytest.mark.requirement("R3.1")
def test_every_checker_has_planted_violations() -> None:
    """None is trusted without."""
    assert {planted.checker for planted in PLANTED} == set(CHECKERS)
