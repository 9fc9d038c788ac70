"""Which faults come when: combinators that a seed turns into an explicit list of events before the run.

Each combinator draws from generators derived from the seed by name, so that adding one leaves the others' draws alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Range = tuple[float, float]
Draws = Callable[[str], random.Random]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fault of one target. It comes at `at_s` seconds after the workload began, or at `after_records` enqueued.

    `hold_s` is the time from its verified effect to its healing, in seconds.
    """

    id: int = 0
    at_s: float = 0.0
    after_records: int = 0
    kind: str
    target: str
    hold_s: float
    params: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault, where it may strike, for how long, and its parameters' ranges.

    `on` is a node (`worker-1`), a service (`worker`: any of its nodes), `postgres`, or an edge (`worker->postgres`:
    that edge of any of them).
    """

    kind: str
    on: str = "worker"
    hold_s: Range = (1.0, 2.0)
    params: Mapping[str, Range] = field(default_factory=dict)
    weight: float = 1.0


class Plan(Protocol):
    """Turns draws and a topology's names into events."""

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """In any order; ids are given later. `names` are the topology's nodes and edges."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """No faults."""

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """None."""
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One fault, at a time or after so many records."""

    fault: Fault
    at_s: float = 0.0
    after_records: int = 0

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """One."""
        yield _event(self.fault, draws(f"once:{self.fault.kind}"), names, self.at_s, self.after_records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """`count` faults drawn from several by weight, `every_s` apart; where `cover` is set, each kind at least once."""

    faults: tuple[Fault, ...]
    count: int
    every_s: Range = (1.0, 2.0)
    start_s: float = 0.5
    cover: bool = True

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """`count` of them."""
        which, when = draws("mix:which"), draws("mix:when")
        chosen = list(self.faults[: self.count]) if self.cover else []
        weights = [fault.weight for fault in self.faults]
        chosen += which.choices(self.faults, weights, k=self.count - len(chosen))
        which.shuffle(chosen)
        at_s = self.start_s
        for number, fault in enumerate(chosen):
            yield _event(fault, draws(f"mix:{number}"), names, at_s, 0)
            at_s += when.uniform(*self.every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipFlop:
    """Two faults in turn, `times` each."""

    one: Fault
    other: Fault
    times: int
    every_s: Range = (2.0, 3.0)

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """2 x `times`."""
        when = draws("flip-flop:when")
        at_s = 0.5
        for number in range(2 * self.times):
            fault = self.other if number % 2 else self.one
            yield _event(fault, draws(f"flip-flop:{number}"), names, at_s, 0)
            at_s += when.uniform(*self.every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Several plans side by side."""

    plans: tuple[Plan, ...]

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """All of theirs."""
        for number, plan in enumerate(self.plans):
            yield from plan.events(_below(draws, f"together:{number}:"), names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An explicit list: what a replay and a shrunk schedule are made of."""

    listed: tuple[Event, ...]

    def events(self, draws: Draws, names: Sequence[str]) -> Iterator[Event]:
        """As they stand."""
        return iter(self.listed)


def draws_of(seed: int, scenario: str) -> Draws:
    """Generators by name, each seeded from the run's seed, the scenario and its own name."""

    def draw(name: str) -> random.Random:
        digest = hashlib.sha256(f"{seed}:{scenario}:{name}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - reproducible on purpose

    return draw


def candidates(on: str, names: Sequence[str]) -> list[str]:
    """The nodes or edges that `on` may mean: itself, or the numbered ones of a service."""
    source, arrow, target = on.partition("->")
    if arrow:
        edges = [name.partition("->") for name in names if "->" in name]
        return [f"{a}->{b}" for a, _, b in edges if b == target and _belongs(a, source)]
    return [name for name in names if "->" not in name and _belongs(name, source)]


def _belongs(node: str, service: str) -> bool:
    return node == service or (node.startswith(f"{service}-") and node[len(service) + 1 :].isdigit())


def _below(draws: Draws, prefix: str) -> Draws:
    return lambda name: draws(prefix + name)


def _event(fault: Fault, rand: random.Random, names: Sequence[str], at_s: float, after_records: int) -> Event:
    where = candidates(fault.on, names)
    if not where:
        raise ValueError(f"fault {fault.kind}: nothing in this topology is called {fault.on!r}; there are {names}")
    return Event(
        at_s=round(at_s, 3),
        after_records=after_records,
        kind=fault.kind,
        target=rand.choice(where),
        hold_s=round(rand.uniform(*fault.hold_s), 3),
        params={name: round(rand.uniform(*given), 4) for name, given in sorted(fault.params.items())},
    )
