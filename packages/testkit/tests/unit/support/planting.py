"""Small tools for spoiling a clean history."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.history.entries import Entry, Outcome

from .histories import World

Spoil = Callable[[World, random.Random], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A violation, the checker that must notice it, and how it must judge. `keep_seq`: the lines' numbers stay."""

    name: str
    checker: str
    spoil: Spoil
    status: Status = Status.FAIL
    keep_seq: bool = False

    def in_(self, clean: World, seed: int) -> World:
        """A spoiled copy."""
        world = clean.copy()
        self.spoil(world, random.Random(f"{self.name}:{seed}"))
        if not self.keep_seq:
            world.renumber()
        return world


def indices(
    world: World, kind: str, op: str | None = None, where: Callable[[Entry], bool] = lambda _: True
) -> list[int]:
    """Where such lines are."""
    return [
        at
        for at, entry in enumerate(world.entries)
        if entry.kind == kind and (op is None or entry.op == op) and where(entry)
    ]


def acknowledged(world: World) -> set[int]:
    """Serials with an `ok`."""
    return {
        serial for entry in world.entries if entry.kind == "ok" for serial in range(entry.key, entry.key + entry.value)
    }


def outcomes(world: World, where: Callable[[Outcome], bool] = lambda _: True) -> list[int]:
    """Where the outcomes of acknowledged records are."""
    acked = acknowledged(world)
    return indices(world, "outcome", "record", lambda entry: entry.key in acked and where(entry.value))


def results(world: World) -> list[int]:
    """Where the outcomes with a result are."""
    return outcomes(world, lambda outcome: outcome.results == 1)


def change(world: World, at: int, **fields: Any) -> None:
    """Change an outcome."""
    entry = world.entries[at]
    world.entries[at] = entry._replace(value=entry.value._replace(**fields))


def mark_at(world: World, mark: str) -> int:
    """Where a mark is."""
    return indices(world, "mark", mark)[0]


def insert(world: World, at: int, *lines: tuple[str, str, str, Any, Any]) -> None:
    """Put lines (actor, kind, op, key, value) in before another, at its time."""
    t = world.entries[at].t
    world.entries[at:at] = [Entry(0, t, *line) for line in lines]


def before_outcomes(world: World) -> int:
    """Where the outcomes begin."""
    return indices(world, "outcome")[0]


def give_fault(world: World, at_s: float, phases: tuple[str, ...], number: int = 900, kind: str = "planted") -> None:
    """Add a fault whose phases come 0.2 s apart."""
    about = {"kind": kind, "target": "worker-1", "params": {}, "why": "planted"}
    for step, phase in enumerate(phases):
        t = at_s + 0.2 * step
        at = next((i for i, entry in enumerate(world.entries) if entry.t > t), len(world.entries))
        world.entries.insert(at, Entry(0, t, "nemesis", "fault", phase, number, about))


def move(world: World, since: float, by_s: float) -> None:
    """Let everything after a moment happen later."""

    def later(t: float) -> float:
        return t if t <= since else t + by_s

    for at, entry in enumerate(world.entries):
        value = entry.value
        if entry.kind == "outcome":
            value = value._replace(enqueued=later(value.enqueued), done=later(value.done))
        world.entries[at] = entry._replace(t=later(entry.t), value=value)
