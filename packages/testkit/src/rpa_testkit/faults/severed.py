"""A worker and its way to PostgreSQL together: started without it, killed without it, broken at its COMMITs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpa_testkit.drivers.protocol import Node, System
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.proxy.client import Proxy, Rule
from rpa_testkit.proxy.trap import Snap, Trap
from rpa_testkit.scenario.model import POSTGRES, edge
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import ClearEdge, Undo

_PROBE_S = 5.0
_COMPLETION = ("COPY rpa.result", "COMMIT")
_SNAPS: tuple[Snap, ...] = ("before", "after", "late", "cut")


class _CutOff:
    """A worker whose edge to PostgreSQL refuses; healed when it is ready."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.node: Node = system.nodes[event.target]
        self.proxy: Proxy = system.proxy
        self.edge = edge(event.target, POSTGRES)
        self.before = self.node.incarnation

    def undo(self) -> tuple[Undo, ...]:
        """The edge's rule; the worker goes with the run."""
        return (ClearEdge(host=self.proxy.host, port=self.proxy.port, edge=self.edge),)

    def cut(self) -> None:
        """Refuse new connections, break those that stand."""
        self.proxy.set_rule(self.edge, Rule(refuse=True))
        self.proxy.reset(self.edge)

    def refused(self) -> bool:
        """Whether a connection through the edge is."""
        return self.proxy.probe(self.edge, _PROBE_S).outcome == "refused"

    def verify_healed(self) -> Seen | None:
        """Another incarnation is ready."""
        if self.node.incarnation == self.before or not self.node.ready():
            return None
        return {"incarnation": self.node.incarnation}


class StartedWithout(_CutOff):
    """Killed and started again while PostgreSQL cannot be reached: it must wait, not end."""

    def inject(self) -> Seen:
        """Returns when the new one has been started."""
        self.node.kill()
        self.cut()
        self.node.start()
        self.alone = self.node.incarnation
        return {"incarnation": self.alone}

    def verify(self) -> Seen | None:
        """It runs, is not ready, and nobody gets through."""
        if not self.node.running or self.node.ready() or not self.refused():
            return None
        return {"ready": False}

    def heal(self) -> Seen:
        """Let it through. AssertionError if it has not waited."""
        tries = self.proxy.stats(self.edge).refused
        self.proxy.clear(self.edge)
        if self.node.incarnation != self.alone:
            raise AssertionError(f"{self.node.name} did not wait for PostgreSQL: it ended with {self.node.exit_code}")
        return {"tries": tries}


class KilledWithout(_CutOff):
    """Cut off with work in hand and, when the time is over, killed before PostgreSQL can be reached again."""

    def inject(self) -> Seen:
        """From now on nothing can be committed."""
        self.cut()
        return {"incarnation": self.before}

    def verify(self) -> Seen | None:
        """It runs, and nobody gets through."""
        return {"running": True} if self.node.running and self.refused() else None

    def heal(self) -> Seen:
        """Kill it, let it through, start it."""
        self.node.kill()
        self.proxy.clear(self.edge)
        self.node.start()
        return {"killed": True}


class CommitCut:
    """The connection breaks at the COMMIT of a completion; `how`: 0 lost, 1 answer lost, 2 late, 3 in between."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.proxy: Proxy = system.proxy
        self.edge = event.target
        self.snap = _SNAPS[min(int(params["how"]), len(_SNAPS) - 1)]
        most_s = {"late": 1.0, "cut": 0.005}.get(self.snap, 0.0)
        delay_s = round(most_s * params["lateness"], 4)
        self.trap = Trap(signs=_COMPLETION, snap=self.snap, nth=max(1, int(params["nth"])), delay_s=delay_s)

    def undo(self) -> tuple[Undo, ...]:
        """The trap off the edge."""
        return (ClearEdge(host=self.proxy.host, port=self.proxy.port, edge=self.edge),)

    def inject(self) -> Seen:
        """It waits for the worker's next completions."""
        self.proxy.set_trap(self.edge, self.trap)
        return {"how": self.snap, "nth": self.trap.nth}

    def verify(self) -> Seen | None:
        """It was sprung; where the answer was to be lost, PostgreSQL has given one."""
        told = self.proxy.trap(self.edge)
        if not told.sprung or (self.snap == "after" and not told.answered):
            return None
        return {"how": self.snap, "answered": told.answered}

    def heal(self) -> Seen:
        """Take it away."""
        self.proxy.clear(self.edge)
        return {}

    def verify_healed(self) -> Seen | None:
        """A connection through the edge is answered."""
        return {} if self.proxy.probe(self.edge, _PROBE_S).outcome == "answered" else None


def _kind(
    name: str, made: Any, about: str, strikes: str, params: Mapping[str, float] | None = None, **times: float
) -> FaultKind:
    def make(system: System, event: Event, given: Mapping[str, float]) -> Injection:
        injection: Injection = made(system, event, given)
        return injection

    return FaultKind(name=name, about=about, strikes=strikes, make=make, params=params or {}, **times)


KINDS = (
    _kind("start-without-postgres", StartedWithout, "started while PostgreSQL cannot be reached", "worker"),
    _kind("kill-without-postgres", KilledWithout, "cut off with work in hand, and killed before it ends", "worker"),
    _kind(
        "commit-cut",
        CommitCut,
        "the connection breaks at the COMMIT of a completion",
        "edge",
        {"how": 1.0, "nth": 1.0, "lateness": 0.5},
        verify_s=30.0,
    ),
)
