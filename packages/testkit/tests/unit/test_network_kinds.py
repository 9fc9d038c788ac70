"""Faults of an edge, without one: names, parameters, and what makes no sense."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from rpa_testkit.drivers.protocol import System
from rpa_testkit.faults.network import KINDS
from rpa_testkit.proxy.rules import Rule
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import ClearEdge, Command, Continue, Limit, Remove, Sql, Undo, Write, from_json, to_json

_SYSTEM = cast("System", SimpleNamespace(proxy=SimpleNamespace(host="127.0.0.1", port=4000)))


def _make(name: str, target: str = "worker-1->postgres", **params: float) -> Any:
    kind = next(kind for kind in KINDS if kind.name == name)
    return kind.make(_SYSTEM, Event(kind=name, target=target, hold_s=1.0), {**kind.params, **params})


@pytest.mark.requirement("R3.3")
def test_the_kinds_strike_edges_and_are_taken_back_by_clearing_them() -> None:
    """Each has its own name; the undo names the proxy and the edge."""
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names) == 8
    for kind in KINDS:
        assert kind.strikes == "edge"
        assert _make(kind.name).undo() == (ClearEdge(host="127.0.0.1", port=4000, edge="worker-1->postgres"),)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("partition", {"target": "worker-1"}, "partition strikes an edge such as worker-1->postgres, not 'worker-1'"),
        ("latency", {"latency_s": 0.0}, "latency_s is above 0"),
        ("latency", {"jitter_s": -1.0}, "jitter_s is 0 or more"),
        ("bandwidth", {"bytes_per_s": 1e9}, "bytes_per_s is 1000 to 100000"),
        ("bandwidth", {"bytes_per_s": 0.0}, "bytes_per_s is 1000 to 100000"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, wrong: dict[str, Any], says: str) -> None:
    """Before anything is done to the edge, with what would make sense."""
    with pytest.raises(ValueError, match=says):
        _make(name, **wrong)


@pytest.mark.requirement("R3.3")
def test_a_rule_covers_its_directions() -> None:
    """Both by default; nonsense is refused."""
    assert Rule().covers("server")
    assert Rule().covers("client")
    assert not Rule(toward="client").covers("server")
    assert Rule(**Rule(toward="server", stall=True).to_json()) == Rule(toward="server", stall=True)
    with pytest.raises(ValueError, match="toward both or server or client"):
        Rule(toward=cast("Any", "sideways"))
    for name in ("latency_s", "jitter_s", "bytes_per_s"):
        for value in (-1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match=f"{name} is 0 or more"):
                Rule(**{name: value})  # type: ignore[arg-type]  # one of the three numbers


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    "undo",
    [
        Continue(pid=1, started=2),
        Limit(pid=1, started=2, resource="RLIMIT_NOFILE", soft=3, hard=4),
        Command(argv=("a", "b"), timeout_s=1.0),
        Sql(dsn="postgresql://here", statements=("SELECT 1",)),
        ClearEdge(host="h", port=1, edge="a->b"),
        Remove(path="/f"),
        Write(path="/f", text="t"),
    ],
)
def test_an_undo_survives_the_wire(undo: Undo) -> None:
    """As it was, whichever it is."""
    assert from_json(to_json(undo)) == undo
