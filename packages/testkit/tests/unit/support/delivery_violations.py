"""Violations of what must have reached others by the end, each for the checker that must notice it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from rpa_testkit.checkers.verdict import Status

from .histories import World
from .planting import Planted, Spoil, indices, insert, mark_at


def _of_life(world: World, drained: bool) -> list[int]:
    """Where the runs of lives are that ended so; of any life, where none did."""
    lives = {world.entries[at].key: world.entries[at].value["drained"] for at in indices(world, "observe", "life")}
    runs = indices(world, "observe", "prefect-run", lambda entry: entry.value["incarnation"] in lives)
    return [at for at in runs if lives[world.entries[at].value["incarnation"]] == drained] or runs


def _change(drained: bool = True, **fields: Any) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        at = rng.choice(_of_life(world, drained))
        entry = world.entries[at]
        world.entries[at] = entry._replace(value={**entry.value, **fields})

    return spoil


def _swap_states(world: World, rng: random.Random) -> None:
    at = rng.choice(_of_life(world, rng.random() < 0.5))
    entry = world.entries[at]
    other = "CRASHED" if entry.value["state"] == "COMPLETED" else "COMPLETED"
    world.entries[at] = entry._replace(value={**entry.value, "state": other})


def _recount(world: World) -> None:
    (at,) = indices(world, "observe", "prefect")
    runs = len(indices(world, "observe", "prefect-run"))
    world.entries[at] = world.entries[at]._replace(value={"runs": runs})


def _no_run(world: World, rng: random.Random) -> None:
    del world.entries[rng.choice(_of_life(world, rng.random() < 0.5))]
    _recount(world)


def _two_runs(world: World, rng: random.Random) -> None:
    at = rng.choice(_of_life(world, rng.random() < 0.5))
    world.entries.insert(at, world.entries[at]._replace(key="another"))
    _recount(world)


def _no_word(world: World, rng: random.Random) -> None:
    (at,) = indices(world, "observe", "prefect")
    world.entries[at] = world.entries[at]._replace(op="prefect-unread", value="ConnectionRefusedError")


def _cut_short(world: World, rng: random.Random) -> None:
    """A page of the server's answer is missing in the history."""
    del world.entries[rng.choice(indices(world, "observe", "prefect-run"))]


def _without(op: str) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        world.entries = [entry for entry in world.entries if entry.op != op]

    return spoil


def _left(**value: Any) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        insert(world, mark_at(world, "ended"), ("runner", "observe", "spool", "worker/probe.x.spool", value))

    return spoil


def _unread_spool(world: World, rng: random.Random) -> None:
    line = ("runner", "observe", "spool-unread", "worker/probe.x.spool", "DatabaseError: malformed")
    insert(world, mark_at(world, "ended"), line)


def _blind(world: World, rng: random.Random) -> None:
    (at,) = indices(world, "observe", "alerts")
    entry = world.entries[at]
    world.entries[at] = entry._replace(value={**entry.value, "read": False})


def _renamed(op: str) -> Spoil:
    def spoil(world: World, rng: random.Random) -> None:
        (at,) = indices(world, "observe", op)
        entry = world.entries[at]
        world.entries[at] = entry._replace(value={**entry.value, "name": "SomethingElse"})

    return spoil


REPORTED: dict[str, Spoil] = {
    "a life without a run": _no_run,
    "a life with two runs": _two_runs,
    "a state that is not the life's": _swap_states,
    "a run that never ended": _change(state="RUNNING"),
    "a run that waits": _change(drained=False, state="PENDING"),
    "lines out of order": _change(disordered=True),
    "lines out of order in a crashed run": _change(drained=False, disordered=True),
    "lines missing": _change(missing=2),
}
SPOOLS: dict[str, Spoil] = {
    "an entry left": _left(waiting={"prefect": 1}, dead={}),
    "finished work left": _left(waiting={"finished": 3}, dead={}),
    "a dead letter": _left(waiting={}, dead={"prefect": 1}, reasons={"prefect 0": "404"}),
    "a dead letter of the intake": _left(waiting={}, dead={"intake": 2}),
}
ALERTED: dict[str, Spoil] = {
    "no alert": _without("alert"),
    "another alert": _renamed("alert"),
    "an alert without an end": _without("alert-over"),
    "another alert's end": _renamed("alert-over"),
}
UNTOLD: dict[str, tuple[str, Callable[[World, random.Random], None]]] = {
    "Prefect not read": ("reported", _no_word),
    "half of Prefect read": ("reported", _cut_short),
    "no lives noted": ("reported", _without("life")),
    "spools not looked at": ("spools-drained", _without("spools")),
    "a spool that cannot be read": ("spools-drained", _unread_spool),
    "nobody looked at Alertmanager": ("alerted", _without("alerts")),
    "Alertmanager not read at the end": ("alerted", _blind),
}


def catalogue() -> tuple[Planted, ...]:
    """All of them."""
    by_checker = {"reported": REPORTED, "spools-drained": SPOOLS, "alerted": ALERTED}
    planted = [
        Planted(name=name, checker=checker, spoil=spoil)
        for checker, spoils in by_checker.items()
        for name, spoil in spoils.items()
    ]
    untold = [
        Planted(name=name, checker=checker, spoil=spoil, status=Status.UNKNOWN)
        for name, (checker, spoil) in UNTOLD.items()
    ]
    return (*planted, *untold)
