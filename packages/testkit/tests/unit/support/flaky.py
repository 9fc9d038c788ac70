"""Systems that fail under certain faults, every time or nearly so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

from rpa_testkit.scenario.plan import Event
from rpa_testkit.scenario.schedule import Schedule

Events = tuple[tuple[int, float], ...]


def schedule_of(count: int, hold_s: float = 2.0) -> Schedule:
    """So many events, numbered from 1."""
    events = (
        Event(id=number, at_s=float(number), kind="crash", target="worker-1", hold_s=hold_s)
        for number in range(1, count + 1)
    )
    return Schedule(scenario="exactly-once", seed=7, events=tuple(events))


def ids(schedule: Schedule) -> set[int]:
    """Its events' numbers."""
    return {event.id for event in schedule.events}


def events_of(schedule: Schedule) -> Events:
    """What tells it from the others made of the same events."""
    return tuple((event.id, event.hold_s) for event in schedule.events)


class Flaky:
    """Fails with probability `p` when its bug is there, and keeps count of how each schedule did."""

    def __init__(self, bug: Callable[[Schedule], bool], *, p: float = 1.0, seed: int = 0) -> None:
        self._bug, self._p, self._rng = bug, p, random.Random(seed)
        self.failed: Counter[Events] = Counter()
        self.replays: Counter[Events] = Counter()

    def __call__(self, schedule: Schedule) -> bool:
        """Replay it."""
        fails = self._bug(schedule) and self._rng.random() < self._p
        self.replays[events_of(schedule)] += 1
        self.failed[events_of(schedule)] += fails
        return fails


def needs(events: Iterable[int]) -> Callable[[Schedule], bool]:
    """A bug that takes all of these events."""
    needed = set(events)
    return lambda schedule: needed <= ids(schedule)
