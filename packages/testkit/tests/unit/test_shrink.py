"""Making a failing schedule small."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpa_testkit.scenario.schedule import Schedule, read_schedule
from rpa_testkit.shrink import Budget, Ended, NotReproducedError, save_regression, shrink

from .support.flaky import Flaky, events_of, ids, needs, schedule_of

BUDGET = Budget(replays=60)
PLENTY = Budget(replays=100_000)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_sure_bug_in_sixty_events_is_found_exactly(count: int) -> None:
    """The events that it takes and no others, within the budget."""
    for seed in range(50):
        needed = random.Random(seed).sample(range(1, 61), count)
        system = Flaky(needs(needed))
        shrunk = shrink(schedule_of(60), system, k=1, n=1, budget=BUDGET)
        assert ids(shrunk.schedule) == set(needed)
        assert shrunk.ended is Ended.MINIMAL
        assert shrunk.replays == system.replays.total() <= BUDGET.replays


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("count", [2, 3])
def test_flaky_bug_in_sixty_events_becomes_five_at_most(count: int) -> None:
    """One that shows in four of five replays, in 60 seeds."""
    for seed in range(60):
        needed = random.Random(seed).sample(range(1, 61), count)
        system = Flaky(needs(needed), p=0.8, seed=seed)
        try:
            shrunk = shrink(schedule_of(60), system, k=1, n=3, budget=BUDGET)
        except NotReproducedError:
            assert system.failed.total() == 0
            continue
        assert set(needed) <= ids(shrunk.schedule)
        assert len(shrunk.schedule.events) <= 5, seed
        assert system.replays.total() <= BUDGET.replays


@st.composite
def _systems(draw: st.DrawFn) -> tuple[int, list[set[int]], set[int]]:
    """Several bugs in one, and events that hide them: leaving one out may make it fail or stop failing."""
    count = draw(st.integers(1, 30))
    some = st.sets(st.integers(1, count), min_size=1, max_size=4)
    return count, draw(st.lists(some, min_size=1, max_size=3)), draw(st.sets(st.integers(1, count), max_size=3))


@pytest.mark.requirement("R3.3")
@settings(max_examples=200, deadline=None)
@given(
    system=_systems(),
    p=st.sampled_from([1.0, 0.8, 0.5]),
    k_of_n=st.sampled_from([(1, 1), (1, 3), (2, 3), (3, 5)]),
    replays=st.integers(0, 80),
    seed=st.integers(0, 1_000),
)
def test_what_is_given_back_has_failed_k_of_n(
    system: tuple[int, list[set[int]], set[int]], p: float, k_of_n: tuple[int, int], replays: int, seed: int
) -> None:
    """Whatever the system, the odds and the budget; it is part of what was given, and nothing is tried again."""
    count, bugs, hiding = system
    k, n = k_of_n

    def bug(schedule: Schedule) -> bool:
        there = ids(schedule)
        return any(needed <= there for needed in bugs) and (len(there & hiding) != 1 or there <= hiding)

    flaky, given_schedule = Flaky(bug, p=p, seed=seed), schedule_of(count)
    try:
        shrunk = shrink(given_schedule, flaky, k=k, n=n, budget=Budget(replays=replays))
    except NotReproducedError:
        assert flaky.failed[events_of(given_schedule)] < k
        return
    key = events_of(shrunk.schedule)
    assert flaky.failed[key] == k
    assert flaky.replays[key] <= n
    assert max(flaky.replays.values()) <= n
    assert flaky.replays.total() == shrunk.replays <= replays
    assert [event.id for event in shrunk.schedule.events] == sorted(ids(shrunk.schedule))
    assert ids(shrunk.schedule) <= ids(given_schedule)


@pytest.mark.requirement("R3.3")
@settings(max_examples=100, deadline=None)
@given(_systems())
def test_no_single_event_can_be_left_out_of_a_minimal_schedule(system: tuple[int, list[set[int]], set[int]]) -> None:
    """For a bug that shows every time, however its events depend on each other."""
    count, bugs, hiding = system

    def bug(schedule: Schedule) -> bool:
        there = ids(schedule)
        return any(needed <= there for needed in bugs) and (len(there & hiding) != 1 or there <= hiding)

    try:
        shrunk = shrink(schedule_of(count), bug, k=1, n=1, budget=PLENTY)
    except NotReproducedError:
        return
    assert shrunk.ended is Ended.MINIMAL
    events = shrunk.schedule.events
    for number in range(len(events)):
        smaller = shrunk.schedule.with_events([*events[:number], *events[number + 1 :]])
        assert not bug(smaller)


@pytest.mark.requirement("R3.3")
def test_holds_become_as_short_as_the_bug_allows() -> None:
    """All together first, then each by itself."""

    def bug(schedule: Schedule) -> bool:
        held = {event.id: event.hold_s for event in schedule.events}
        return held.get(4, 0.0) >= 1.5 and held.get(9, 0.0) > 0.0

    shrunk = shrink(schedule_of(12, hold_s=4.0), bug, k=1, n=1, budget=PLENTY)
    assert {event.id: event.hold_s for event in shrunk.schedule.events} == {4: 2.0, 9: 1.0}


@pytest.mark.requirement("R3.3")
def test_time_ends_the_search_with_the_best_until_then() -> None:
    """No replay is begun after it; what ended the search is said."""
    now = [100.0]

    def slow(schedule: Schedule) -> bool:
        now[0] += 10.0
        return {3, 40} <= ids(schedule)

    budget = Budget(replays=1_000, seconds=45.0)
    shrunk = shrink(schedule_of(60), slow, k=1, n=1, budget=budget, clock=lambda: now[0])
    assert shrunk.ended is Ended.TIME
    assert shrunk.replays == 5
    assert {3, 40} <= ids(shrunk.schedule) < set(range(1, 61))
    assert "the budget of time ended the search" in shrunk.says


@pytest.mark.requirement("R3.3")
def test_deciding_stops_as_soon_as_it_can() -> None:
    """Two failures of five are enough; after four that passed the fifth cannot help."""
    system = Flaky(needs([5]))
    shrunk = shrink(schedule_of(8), system, k=2, n=5, budget=PLENTY)
    assert {(trial.failed, trial.replays) for trial in shrunk.trials} == {(2, 2), (0, 4)}


@pytest.mark.requirement("R3.3")
def test_a_schedule_that_does_not_fail_is_refused() -> None:
    """With what was seen and what can be done."""
    with pytest.raises(NotReproducedError, match=r"failed 0 of 2 replays, 2 of 3 are needed; ask for fewer"):
        shrink(schedule_of(5), lambda _: False, k=2, n=3, budget=BUDGET)
    with pytest.raises(ValueError, match="got 3 of 2"):
        shrink(schedule_of(5), lambda _: True, k=3, n=2, budget=BUDGET)


@pytest.mark.requirement("R3.3")
def test_a_bug_without_faults_needs_no_events() -> None:
    """A system that fails by itself is told by an empty schedule."""
    shrunk = shrink(schedule_of(60), lambda _: True, k=1, n=1, budget=BUDGET)
    assert shrunk.schedule.events == ()


@pytest.mark.requirement("R3.3")
def test_a_regression_is_a_schedule_and_a_test_that_replays_it(tmp_path: Path) -> None:
    """Both are named by the schedule's content; the test calls the fixture as the plugin offers it."""
    shrunk = shrink(schedule_of(60), needs([7, 31]), k=1, n=1, budget=BUDGET)
    test = save_regression(shrunk, tmp_path / "regressions", driver="docker")
    assert save_regression(shrunk, tmp_path / "regressions", driver="docker") == test
    (stored,) = test.parent.glob("*.schedule.jsonl")
    assert len(list(test.parent.iterdir())) == 2
    assert read_schedule(stored) == shrunk.schedule
    text = test.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 120
    module: dict[str, Any] = {"__file__": str(test)}
    exec(compile(text, str(test), "exec"), module)
    for passed in (True, False):
        chaos = Mock()
        chaos.replay.return_value.judgement.passed = passed
        with nullcontext() if passed else pytest.raises(AssertionError):
            module[test.stem](chaos)
        chaos.replay.assert_called_once_with(stored, scenario="exactly-once", driver="docker")
