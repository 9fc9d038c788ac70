"""Violations of every kind, each for the checker that must notice it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.history.entries import Outcome

from .histories import World
from .planting import (
    Planted,
    Spoil,
    before_outcomes,
    change,
    indices,
    insert,
    mark_at,
    outcomes,
    results,
)

_NOWHERE = {"results": 0, "effects": 0, "dead": 0, "chunks": 0, "done": None}


def _outcome(which: Callable[[World], list[int]] = results, **fields: Any) -> Spoil:
    """Change one outcome."""

    def spoil(world: World, rng: random.Random) -> None:
        change(world, rng.choice(which(world)), **fields)

    return spoil


def _drop(world: World, rng: random.Random) -> None:
    del world.entries[rng.choice(outcomes(world))]


def _drop_tail(world: World, rng: random.Random) -> None:
    for at in reversed(outcomes(world)[-rng.randint(1, 20) :]):
        del world.entries[at]


def _drop_batch(world: World, rng: random.Random) -> None:
    batch = world.entries[rng.choice(indices(world, "ok"))]
    serials = range(batch.key, batch.key + batch.value)
    world.entries = [e for e in world.entries if e.kind != "outcome" or e.key not in serials]


def _drop_one_key(world: World, rng: random.Random) -> None:
    """Only records whose first enqueueing was refused or unanswered; else the first of all."""
    tried = [entry.key for entry in world.entries if entry.kind == "invoke"]
    again = [at for at in outcomes(world) if tried.count(world.entries[at].key) > 1]
    del world.entries[rng.choice(again or outcomes(world)[:1])]


def _no_answer_then_lost(world: World, rng: random.Random) -> None:
    """The first try is unanswered, the second is acknowledged, and the record is nowhere."""
    at = before_outcomes(world)
    serial = 5_000
    answers = [("producer-1", kind, "enqueue", serial, 1) for kind in ("invoke", "info", "invoke", "ok")]
    insert(world, at, *answers)


NO_LOST: dict[str, Spoil] = {
    "drop acknowledged": _drop,
    "drop after commit": _outcome(outcomes, **_NOWHERE),
    "truncate tail": _drop_tail,
    "drop a batch": _drop_batch,
    "drop only under one key": _drop_one_key,
    "unfinished after the drain": _outcome(outcomes, **{**_NOWHERE, "chunks": 1}),
    "unanswered, then acknowledged, then lost": _no_answer_then_lost,
}


def _second_line(**fields: Any) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        at = rng.choice(results(world))
        entry = world.entries[at]
        # At the end of the outcomes, far from the first.
        world.entries.insert(mark_at(world, "ended"), entry._replace(value=entry.value._replace(**fields)))

    return spoil


def _stranger_twice(world: World, rng: random.Random) -> None:
    entry = world.entries[rng.choice(results(world))]._replace(key="run-4711:12")
    at = mark_at(world, "ended")
    world.entries[at:at] = [entry, entry]


def _double_under_retry(world: World, rng: random.Random) -> None:
    """A record whose enqueueing was tried twice is there twice over."""
    at = rng.choice(results(world))
    serial = world.entries[at].key
    insert(world, before_outcomes(world), *[("producer-1", k, "enqueue", serial, 1) for k in ("invoke", "ok")])
    change(world, at + 2, results=2, effects=2)


NO_DUPLICATES: dict[str, Spoil] = {
    "two results": _outcome(results=2),
    "double effect": _outcome(effects=2),
    "double under retry": _double_under_retry,
    "two dead letters": _outcome(outcomes, results=0, effects=0, dead=2),
    "dead letter of a finished record": _outcome(dead=1),
    "finished and in a chunk": _outcome(chunks=1),
    "dead and in a chunk": _outcome(outcomes, results=0, effects=0, dead=1, chunks=1),
    "in two chunks": _outcome(outcomes, **{**_NOWHERE, "chunks": 2}),
    "effect missing": _outcome(effects=0),
    "effect of a dead letter": _outcome(outcomes, results=0, dead=1, effects=1),
    "same record again": _second_line(),
    "another run's record again": _stranger_twice,
    "same id, different payload": _second_line(writer="worker-9", done=99.0),
}


def _stranger(key: Any) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        entry = world.entries[rng.choice(results(world))]
        at = rng.randint(before_outcomes(world), mark_at(world, "ended"))
        world.entries.insert(at, entry._replace(key=key))

    return spoil


def _refused_and_there(again: bool) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        kinds = ("invoke", "fail", "invoke", "fail") if again else ("invoke", "fail")
        insert(world, before_outcomes(world), *[("producer-1", kind, "enqueue", 5_000, 1) for kind in kinds])
        _stranger(5_000)(world, rng)

    return spoil


NO_PHANTOMS: dict[str, Spoil] = {
    "unknown id": _stranger(70_000),
    "unknown negative id": _stranger(-1),
    "id of another run": _stranger("run-4711:12"),
    "refused for certain and there": _refused_and_there(again=False),
    "refused twice and there": _refused_and_there(again=True),
    "a second key for one serial": _second_line(),
}


def _lease(world: World, owner: str, epoch: int, left_s: float = 4.0, chunk: int = 77) -> None:
    at = mark_at(world, "drained")
    insert(world, at, ("probe", "probe", "lease", chunk, [owner, epoch, left_s]))


def _two_owners(world: World, rng: random.Random) -> None:
    epoch = rng.randint(1, 9)
    _lease(world, "worker-1:aaaaaaaaaaaa", epoch)
    _lease(world, "worker-2:bbbbbbbbbbbb", epoch)


def _two_incarnations(world: World, rng: random.Random) -> None:
    _lease(world, "worker-1:aaaaaaaaaaaa", 3)
    _lease(world, "worker-1:bbbbbbbbbbbb", 3)


def _epoch_falls(world: World, rng: random.Random) -> None:
    seen = indices(world, "probe", "lease")
    entry = world.entries[rng.choice(seen)] if seen else None
    owner, epoch, _ = entry.value if entry else ("worker-1:aaaaaaaaaaaa", 1, 0)
    chunk = entry.key if entry else 77
    _lease(world, owner, epoch + 1 + rng.randint(1, 5), chunk=chunk)
    _lease(world, owner, epoch, chunk=chunk)


def _stuck(world: World, rng: random.Random) -> None:
    """Longer than all faults with their recovery, and the time a lease may last."""
    held = [entry.t for entry in world.entries if entry.kind == "fault" and entry.op in ("inject", "healed")]
    times = sorted(held)
    faults_s = sum(b - a for a, b in zip(times[::2], times[1::2], strict=True)) if times else 0.0
    most_s = max(faults_s, (times[-1] - times[0]) if times else 0.0) + 10.0 * len(times) / 2
    _lease(world, "worker-1:aaaaaaaaaaaa", 1, -(most_s + 5.0 + rng.uniform(1, 5)))


def _leased_after(world: World, rng: random.Random) -> None:
    _lease(world, "worker-1:aaaaaaaaaaaa", 1)
    at = mark_at(world, "drained")
    world.entries[at - 1 : at + 1] = [world.entries[at], world.entries[at - 1]]


def _sampled_after(world: World, rng: random.Random) -> None:
    value = {"done": 1, "dead": 0, "waiting": 0, "leased": rng.randint(1, 9), "connections": 1, "nodes": {}}
    insert(world, before_outcomes(world), ("probe", "metric", "sample", None, value))


LEASES: dict[str, Spoil] = {
    "two owners": _two_owners,
    "two incarnations of one owner": _two_incarnations,
    "epoch falls": _epoch_falls,
    "stuck": _stuck,
    "leased after the drain": _leased_after,
    "sampled as leased after the drain": _sampled_after,
    "another's result": _outcome(writer="worker-9"),
    "result of a longer name": _outcome(writer="worker", owner="worker-1:aaaaaaaaaaaa"),
    "result without an ended chunk": _outcome(owner=None),
}


def _mark_not_drained(world: World, rng: random.Random) -> None:
    at = mark_at(world, "drained")
    world.entries[at] = world.entries[at]._replace(op="not-drained")


def _drained_late(world: World, rng: random.Random) -> None:
    at = mark_at(world, "drained")
    for later in range(at, len(world.entries)):
        entry = world.entries[later]
        world.entries[later] = entry._replace(t=entry.t + 61.0)


def _without(kind: str, op: str) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        world.entries = [entry for entry in world.entries if (entry.kind, entry.op) != (kind, op)]

    return spoil


def _observed(what: str, value: Any) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        insert(world, mark_at(world, "ended"), ("runner", "observe", what, None, value))

    return spoil


def _stated_rate(world: World, rng: random.Random) -> None:
    world.header = replace(world.header, steady_state={**world.header.steady_state, "min_rate": 10_000.0})


def _nothing_done(world: World, rng: random.Random) -> None:
    world.header = replace(world.header, steady_state={**world.header.steady_state, "min_rate": 0.001})
    nothing = Outcome(0, 0, 0, 1, None, None, 0.1, None)
    world.entries = [e._replace(value=nothing) if e.kind == "outcome" else e for e in world.entries]


DRAINED: dict[str, Spoil] = {"not drained": _mark_not_drained, "drained late": _drained_late}
NO_LEAKS: dict[str, Spoil] = {
    "a connection": _observed("connections", {"count": 1}),
    "a process": _observed("processes", ["worker-1 (pid 4711)"]),
    "a container": _observed("containers", ["rpa-worker-1"]),
}
RATE: dict[str, Spoil] = {"too slow": _stated_rate, "nothing done": _nothing_done}

UNTOLD = (
    Planted(name="drain not noted", checker="drained", spoil=_without("mark", "drained"), status=Status.UNKNOWN),
    Planted(
        name="connections not looked for",
        checker="no-leaks",
        spoil=_without("observe", "connections"),
        status=Status.UNKNOWN,
    ),
    Planted(
        name="processes not looked for",
        checker="no-leaks",
        spoil=_without("observe", "processes"),
        status=Status.UNKNOWN,
    ),
)


def catalogue() -> tuple[Planted, ...]:
    """All but those that concern time and faults, which are in `fault_violations`."""
    by_checker: dict[str, dict[str, Spoil]] = {
        "no-lost": NO_LOST,
        "no-duplicates": NO_DUPLICATES,
        "no-phantoms": NO_PHANTOMS,
        "leases": LEASES,
        "drained": DRAINED,
        "no-leaks": NO_LEAKS,
        "rate": RATE,
    }
    planted = [
        Planted(name=name, checker=checker, spoil=spoil)
        for checker, spoils in by_checker.items()
        for name, spoil in spoils.items()
    ]
    return (*planted, *UNTOLD)
