"""Make a failing schedule small: fewer events, then shorter ones.

Real systems are flaky, so a candidate counts as failing when `k` of `n` replays fail; replaying it stops as soon as
that is decided. Nothing is ever kept that did not fail so often. The search goes from coarse to fine:

    halves    the shortest beginning that still fails ends with an event that matters: found by halving, kept, and the
              search goes on before it. So m events that matter are found in about m * log2(all) candidates.
    chunks    ddmin over what is left, down to single events, for failures that do not depend on events that simply
    singles   (after a replay that happened to pass, halving keeps too much; this takes it away again)
    holds     all faults held half as long, then each

What was tried is remembered. At the end of its budget the search gives the smallest schedule found until then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from rpa_testkit.scenario.plan import Event
from rpa_testkit.scenario.schedule import Schedule

LEAST_HOLD_S = 0.1
_HALVINGS = 3
_WHERE = 2 / 3


class Ended(StrEnum):
    """Why the search ended."""

    MINIMAL = "minimal"  # no event can be left out, none be held half as long
    REPLAYS = "replays"
    TIME = "time"


class NotReproducedError(Exception):
    """The schedule to be made smaller did not itself fail often enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most replays, and the seconds after which no further one is begun."""

    replays: int = 60
    seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate: how many events it had, how many of its replays failed, and whether that was often enough."""

    events: int
    failed: int
    replays: int
    fails: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The smallest schedule found; it failed `k` of at most `n` replays."""

    schedule: Schedule
    events_before: int
    k: int
    n: int
    ended: Ended
    replays: int
    seconds: float
    trials: tuple[Trial, ...]

    @property
    def says(self) -> str:
        """What was reached, in one line."""
        what = f"{self.events_before} events made {len(self.schedule.events)} in {self.replays} replays"
        why = {
            Ended.MINIMAL: "none of them can be left out",
            Ended.REPLAYS: "the budget of replays ended the search",
            Ended.TIME: "the budget of time ended the search",
        }
        return f"{what} ({self.seconds:.0f} s): {why[self.ended]}"


def shrink(
    schedule: Schedule,
    fails: Callable[[Schedule], bool],
    *,
    k: int,
    n: int,
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
) -> Shrunk:
    """Find a small schedule that still fails. `fails` replays one and says whether it failed; its errors pass through.

    NotReproducedError when `schedule` itself does not fail `k` of `n` times within the budget.
    """
    if not 1 <= k <= n:
        raise ValueError(f"k of n replays must fail, with 1 <= k <= n; got {k} of {n}")
    search = _Search(schedule=schedule, fails=fails, k=k, n=n, budget=budget, clock=clock, began=clock())
    try:
        reproduced = search.fails_with(schedule.events)
    except _SpentError:
        reproduced = False
    if not reproduced:
        seen = search.trials[-1] if search.trials else Trial(events=0, failed=0, replays=0, fails=False)
        raise NotReproducedError(
            f"the schedule of {len(schedule.events)} events failed {seen.failed} of {seen.replays} replays, {k} of {n}"
            " are needed; ask for fewer, allow more replays, or run the same driver as when it failed"
        )
    try:
        search.halves()
        search.chunks()
        search.holds()
        ended = Ended.MINIMAL
    except _SpentError as spent:
        ended = spent.ended
    return Shrunk(
        schedule=schedule.with_events(search.best),
        events_before=len(schedule.events),
        k=k,
        n=n,
        ended=ended,
        replays=search.replays,
        seconds=clock() - search.began,
        trials=tuple(search.trials),
    )


class _SpentError(Exception):
    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self.ended = ended


@dataclass(slots=True, kw_only=True)
class _Search:
    schedule: Schedule
    fails: Callable[[Schedule], bool]
    k: int
    n: int
    budget: Budget
    clock: Callable[[], float]
    began: float
    replays: int = 0
    best: tuple[Event, ...] = ()
    trials: list[Trial] = field(default_factory=list)
    _tried: dict[bytes, bool] = field(default_factory=dict)

    def fails_with(self, events: Sequence[Event]) -> bool:
        """Whether this one fails often enough; if so it is the best so far, as candidates only get smaller."""
        candidate = self.schedule.with_events(events)
        key = candidate.to_bytes()
        if key not in self._tried:
            self._tried[key] = self._replay(candidate)
        if self._tried[key]:
            self.best = candidate.events
        return self._tried[key]

    def _replay(self, candidate: Schedule) -> bool:
        failed = ran = 0
        try:
            while failed < self.k and self.n - ran >= self.k - failed:
                if self.replays >= self.budget.replays:
                    raise _SpentError(Ended.REPLAYS)
                if self.clock() - self.began >= self.budget.seconds:
                    raise _SpentError(Ended.TIME)
                self.replays += 1
                ran += 1
                failed += bool(self.fails(candidate))
        finally:
            often = failed >= self.k
            self.trials.append(Trial(events=len(candidate.events), failed=failed, replays=ran, fails=often))
        return often

    def halves(self) -> None:
        """Find the events that matter from the last to the first."""
        rest, kept = list(self.best), list[Event]()
        while rest:
            passes, fails = -1, len(rest)  # so many of the first ones
            while fails - passes > 1:
                # Not in the middle: a candidate that fails is decided sooner than one that passes.
                between = min(fails - 1, max(passes + 1, round(passes + (fails - passes) * _WHERE)))
                if self.fails_with([*rest[:between], *kept]):
                    fails = between
                else:
                    passes = between
            if not fails:
                return
            kept.insert(0, rest[fails - 1])
            rest = rest[: fails - 1]

    def chunks(self) -> None:
        """Zeller's ddmin, leaving parts out: halves of what is left, quarters, ... single events."""
        parts = 2
        while len(self.best) > 1:
            events, size = self.best, -(-len(self.best) // parts)
            smaller = any(
                self.fails_with([*events[:start], *events[start + size :]]) for start in range(0, len(events), size)
            )
            if smaller:
                parts = max(2, parts - 1)
            elif size == 1:
                return
            else:
                parts = min(len(events), 2 * parts)

    def holds(self) -> None:
        """Shorter faults: all of them together as far as it goes, then each by itself."""
        for _ in range(_HALVINGS):
            if not self._shorter(range(len(self.best))):
                break
        for number in range(len(self.best)):
            self._shorter(range(number, number + 1))

    def _shorter(self, which: range) -> bool:
        events = [_half(event) if number in which else event for number, event in enumerate(self.best)]
        return tuple(events) != self.best and self.fails_with(events)


def _half(event: Event) -> Event:
    return replace(event, hold_s=min(event.hold_s, max(LEAST_HOLD_S, round(event.hold_s / 2, 3))))


_REGRESSION = '''"""Found by fault injection and made small: {says}."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_{name}(chaos: Any) -> None:
    """What once broke it, in order: {events}."""
    schedule = Path(__file__).with_name({file})
    run = chaos.replay(schedule, scenario={scenario}, driver={driver})
    assert run.judgement.passed
'''


def save_regression(shrunk: Shrunk, folder: Path, *, driver: str = "process", spec: str = "") -> Path:
    """Write the schedule and a test that replays it; the test's path. The same schedule gives the same two files.

    `spec` is what finds the scenario, where that is not its name. The test passes once what it found is mended.
    """
    content = shrunk.schedule.to_bytes()
    words = "".join(letter if letter.isalnum() else "_" for letter in shrunk.schedule.scenario.lower())
    name = f"{words}_{sha256(content).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{name}.schedule.jsonl").write_bytes(content)
    test = folder / f"test_{name}.py"
    filled = _REGRESSION.format(
        says=f"{shrunk.events_before} events became {len(shrunk.schedule.events)}",
        name=name,
        events=_in_order(shrunk.schedule.events),
        file=json.dumps(f"{name}.schedule.jsonl"),
        scenario=json.dumps(spec or shrunk.schedule.scenario),
        driver=json.dumps(driver),
    )
    test.write_text(filled, encoding="utf-8")
    return test


def _in_order(events: Sequence[Event]) -> str:
    kinds = [event.kind for event in events[:4]]
    return ", ".join(kinds) + (" ..." if len(events) > len(kinds) else "") if kinds else "nothing"
