"""The compiled schedule: the explicit list of events that is run, stored, replayed and made smaller.

The seed is only a way to make one. The same scenario and seed give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from rpa_testkit.scenario.model import POSTGRES, Scenario
from rpa_testkit.scenario.plan import Event, draws_of

FORMAT = 1
_GAP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Events in the order in which they come. Of two that concern the same node one is over before the other begins."""

    scenario: str
    seed: int
    events: tuple[Event, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: keys sorted, one event a line."""
        head = {"format": FORMAT, "scenario": self.scenario, "seed": self.seed}
        lines = [head, *(asdict(event) for event in self.events)]
        return b"".join(orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE) for line in lines)

    def with_events(self, events: Iterable[Event]) -> Schedule:
        """The same with fewer, or other, events; they keep their ids."""
        return replace(self, events=tuple(events))


def compile_schedule(scenario: Scenario, seed: int) -> Schedule:
    """Draw the events, put them in order, and move apart those that would be in each other's way."""
    names = (*scenario.topology.workers, POSTGRES, *(d.name for d in scenario.topology.dependencies))
    drawn = scenario.faults.events(draws_of(seed, scenario.name), (*names, *scenario.topology.edges))
    ordered = sorted(drawn, key=lambda event: (event.after_records, event.at_s))
    placed = [event if event.id else replace(event, id=number) for number, event in enumerate(_apart(ordered), 1)]
    return Schedule(scenario=scenario.name, seed=seed, events=tuple(placed))


def closed_up(schedule: Schedule) -> Schedule:
    """The same events with the waits between them taken out: where others were left out, nobody waits for them."""
    moved: list[Event] = []
    over_s = 0.0  # when the last of those before is over, as it was and as it is now
    earlier_s = 0.0
    for event in schedule.events:
        if not event.after_records:
            earlier_s = max(earlier_s, event.at_s - over_s - _GAP_S)
            over_s = max(over_s, event.at_s - earlier_s + event.hold_s)
            event = replace(event, at_s=round(event.at_s - earlier_s, 3))
        moved.append(event)
    return schedule.with_events(moved)


def read_schedule(path: Path) -> Schedule:
    """Read what `to_bytes` wrote; ValueError says what is wrong with the file."""
    try:
        head, *lines = (orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip())
        if head.get("format") != FORMAT:
            raise ValueError(f"format {head.get('format')!r}, this version reads {FORMAT}")
        return Schedule(scenario=head["scenario"], seed=head["seed"], events=tuple(Event(**line) for line in lines))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no schedule: {error}") from error


def concerns(event: Event) -> str:
    """The node that a fault takes up: an edge's worker; PostgreSQL's faults take up everything."""
    return event.target.partition("->")[0]


def _apart(events: list[Event]) -> list[Event]:
    free: dict[str, float] = {}
    placed: list[Event] = []
    for event in events:
        if event.after_records:
            placed.append(event)
            continue
        node = concerns(event)
        busy: Any = free.values() if node == POSTGRES else (free.get(node, 0.0), free.get(POSTGRES, 0.0))
        at_s = round(max(event.at_s, max(busy, default=0.0)), 3)
        free[node] = at_s + event.hold_s + _GAP_S
        placed.append(replace(event, at_s=at_s))
    return sorted(placed, key=lambda event: (event.after_records, event.at_s))
