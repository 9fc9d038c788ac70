"""Violations of order, of time and around faults, each for the checker that must notice it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.history.entries import Entry, Header

from .histories import World
from .planting import Planted, Spoil, before_outcomes, change, give_fault, indices, insert, mark_at, move, outcomes

_WHOLE = ("inject", "injected", "verified", "heal", "healed")


def _fault(*phases: str) -> Spoil:
    """One more fault in the middle of the work, with these phases."""

    def spoil(world: World, rng: random.Random) -> None:
        give_fault(world, _middle(world, rng), phases)

    return spoil


def _middle(world: World, rng: random.Random) -> float:
    done: list[float] = sorted(world.entries[at].value.done for at in indices(world, "outcome"))
    return rng.choice(done[len(done) // 3 : 2 * len(done) // 3])


def _line(actor: str, kind: str, op: str, key: Any = None, value: Any = None) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        insert(world, rng.randint(5, mark_at(world, "drained")), (actor, kind, op, key, value))

    return spoil


def _gap(world: World, rng: random.Random) -> None:
    del world.entries[rng.randint(1, len(world.entries) - 2)]


def _backwards(world: World, rng: random.Random) -> None:
    at = rng.choice(outcomes(world))
    world.entries[at] = world.entries[at]._replace(t=world.entries[at].t - rng.uniform(0.5, 3.0))


def _again(mark: str) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        insert(world, before_outcomes(world), ("runner", "mark", mark, None, None))

    return spoil


LEGAL_STATES: dict[str, Spoil] = {
    "contradiction": _line("runner", "observe", "contradiction", 7, "two leases for chunk 7"),
    "unexpected exit": _line("worker-1", "node", "exited", "worker-1", {"code": 1, "expected": False}),
    "exit of which nobody knows": _line("worker-1", "node", "exited", "worker-1", {"code": -11}),
    "fault skips injected": _fault("inject", "verified", "heal", "healed"),
    "fault skips verified": _fault("inject", "injected", "heal", "healed"),
    "fault skips heal": _fault("inject", "injected", "verified", "healed"),
    "fault never injected": _fault("injected", "verified", "heal", "healed"),
    "fault rises again": _fault(*_WHOLE, "verified"),
    "fault healed twice": _fault(*_WHOLE, "healed"),
    "fault not run and injected": _fault("not-run", "inject"),
    "answer to what was not asked": _line("producer-1", "ok", "enqueue", 6_000, 2),
    "drained and not drained": _again("not-drained"),
    "drained twice": _again("drained"),
    "time goes back": _backwards,
}


def _after_work(world: World, rng: random.Random) -> None:
    done = max(world.entries[at].value.done for at in indices(world, "outcome"))
    give_fault(world, done + 0.01, _WHOLE)


def _before_work(world: World, rng: random.Random) -> None:
    move(world, 0.05, 5.0)
    give_fault(world, 0.5, _WHOLE)


def _in_a_pause(world: World, rng: random.Random) -> None:
    """Nothing is enqueued from some moment on, what was is done, and the fault comes before more is."""
    at = world.entries[indices(world, "invoke")[0]].t - 0.001
    move(world, at, 4.0)
    give_fault(world, at + 1.0, _WHOLE)


def _no_ok(world: World, rng: random.Random) -> None:
    world.entries = [entry._replace(kind="info") if entry.kind == "ok" else entry for entry in world.entries]


OVERLAP: dict[str, Spoil] = {
    "fault after the work": _after_work,
    "fault before the work": _before_work,
    "fault in a pause": _in_a_pause,
    "no operation acknowledged": _no_ok,
}


def _demand(world: World, rng: random.Random) -> None:
    world.header = replace(world.header, topology={**world.header.topology, "demanded_faults": ["clock"]})
    give_fault(world, 1.0, ("not-run",), 901, "clock")


def _nothing_run(world: World, rng: random.Random) -> None:
    world.entries = [entry for entry in world.entries if entry.kind != "fault" and entry.op != "schedule"]
    give_fault(world, 1.0, ("not-run",), 901, "clock")


def _never_came(world: World, rng: random.Random) -> None:
    insert(world, 5, ("runner", "observe", "schedule", None, [[990, "pause"]]))


VERIFIED: dict[str, Spoil] = {
    "unverified": _fault("inject", "injected", "unverified", "heal", "healed"),
    "injection failed": _fault("inject", "unverified"),
    "verification missing": _fault("inject", "injected", "heal", "healed"),
    "healing missing": _fault("inject", "injected", "verified", "heal"),
    "nothing but injected": _fault("inject"),
    "injection missing": _fault("injected", "verified", "heal", "healed"),
    "scheduled and never came": _never_came,
    "demanded and not run": _demand,
    "nothing run": _nothing_run,
}


def _late(which: str) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        """Later than any number of faults excuses."""
        at = rng.choice(outcomes(world))
        enqueued = world.entries[at].value.enqueued
        faults = len(indices(world, "fault", "inject"))
        done = enqueued + 60.0 + 20.0 * (faults + 1) + rng.uniform(0, 5)
        fields = {"results": 0, "effects": 0, "dead": 1} if which == "dead" else {}
        change(world, at, done=done, **fields)

    return spoil


def _after_the_last(pace: Callable[[float], float]) -> Spoil:
    """Stretch the time after the last healing by 30 s in which a backlog is worked off at `pace` times the old one."""

    def spoil(world: World, rng: random.Random) -> None:
        # After some undisturbed time, so that there is a pace to compare with.
        last = max((world.entries[at].t for at in indices(world, "fault", "healed")), default=2.0)
        give_fault(world, min(last + 3.0, world.entries[mark_at(world, "drained")].t - 1.2), _WHOLE)
        healed = max(entry.t for entry in world.entries if (entry.kind, entry.op) == ("fault", "healed"))
        move(world, healed, 30.0)
        before = [e for e in world.entries if e.op == "sample" and e.t <= healed and e.value["done"] is not None]
        done = before[-1].value["done"] if before else 0
        samples, rate, finished = [], _pace(world.header, before), float(done)
        for step in range(1, 58):
            finished += 0.5 * rate * pace(step * 0.5)
            value = {"done": int(finished), "dead": 0, "waiting": 5_000, "leased": 10, "connections": 2, "nodes": {}}
            samples.append(Entry(0, healed + 0.5 * step, "probe", "metric", "sample", None, value))
        at = next(i for i, entry in enumerate(world.entries) if entry.t > healed)
        world.entries[at:at] = samples

    return spoil


def _pace(header: Header, before: list[Entry]) -> float:
    """About the pace of the clean run, as it was sampled."""
    if len(before) < 2:
        return 20.0
    seconds = before[-1].t - before[0].t
    done: int = before[-1].value["done"] - before[0].value["done"]
    return max(8.0, done / seconds)


RECOVERY: dict[str, Spoil] = {
    "flat zero tail": _after_the_last(lambda _: 0.0),
    "slow ramp": _after_the_last(lambda t: min(1.0, t / 90.0)),
    "a quarter of the pace for good": _after_the_last(lambda _: 0.25),
}


def _no_samples(world: World, rng: random.Random) -> None:
    give_fault(world, _middle(world, rng), _WHOLE)
    healed = max(entry.t for entry in world.entries if (entry.kind, entry.op) == ("fault", "healed"))
    world.entries = [
        e for e in world.entries if e.op not in ("sample", "drained") or (e.op == "sample" and e.t < healed)
    ]


def catalogue() -> tuple[Planted, ...]:
    """All of them."""
    unknown, fail = Status.UNKNOWN, Status.FAIL
    named: list[tuple[str, dict[str, Spoil], Status]] = [
        ("legal-states", LEGAL_STATES, fail),
        ("overlap", OVERLAP, unknown),
        ("faults-verified", VERIFIED, unknown),
        ("faults-verified", {"unhealed": _fault("inject", "injected", "verified", "heal", "unhealed")}, fail),
        ("within", {"late record": _late("result"), "late dead letter": _late("dead")}, fail),
        ("recovery", RECOVERY, fail),
        ("recovery", {"no samples": _no_samples}, unknown),
    ]
    planted = [
        Planted(name=name, checker=checker, spoil=spoil, status=status)
        for checker, spoils, status in named
        for name, spoil in spoils.items()
    ]
    return (*planted, Planted(name="a line is missing", checker="legal-states", spoil=_gap, keep_seq=True))
