"""Faults of an HTTP dependency: it answers with errors, slowly, or does what it is asked and is not heard.

Each strikes a dependency for everybody, or one edge to it. What stands before it in the proxy does it, and it is seen
as a client would see it: by requests through the edge.
"""

from __future__ import annotations

import http.client
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from rpa_testkit.drivers.protocol import System
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.proxy.client import HttpRule, Proxy
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import ClearEdge, Undo

_ANSWER_S = 10.0
_ASKS = 3
_LOGS = "/logs/"
_TAKEN_EFFECT = 0.8  # of what was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of a request: a status, or 0 when the connection broke; and after how long."""

    status: int
    took_s: float


class _OnHttp(ABC):
    """What all of them share."""

    path = "/"

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        self.kind = event.kind
        self.proxy: Proxy = system.proxy
        names = system.proxy.edges()
        self.edges = [name for name in names if event.target in (name, name.partition("->")[2])]
        if not self.edges:
            raise ValueError(f"{event.kind} strikes a dependency or an edge to one, not {event.target!r}")
        self.params = params
        self.before = Heard(status=0, took_s=0.0)

    def undo(self) -> tuple[Undo, ...]:
        """All rules off the edges."""
        return tuple(ClearEdge(host=self.proxy.host, port=self.proxy.port, edge=edge) for edge in self.edges)

    def inject(self) -> Seen:
        """Ask as it is, then strike. RuntimeError if it does not answer even before."""
        answers = [heard for heard in (self.ask() for _ in range(_ASKS)) if heard.status]
        if not answers:
            raise RuntimeError(f"{self.kind}: {self.edges[0]} did not answer before anything was done to it")
        self.before = min(answers, key=lambda heard: heard.took_s)  # one slow answer would hide the next one's delay
        self._counted = self._struck()
        for edge in self.edges:
            self.proxy.set_http(edge, self.rule())
        return {"edges": len(self.edges), "before": self.before.status}

    @abstractmethod
    def rule(self) -> HttpRule:
        """What the proxy is asked for."""

    @abstractmethod
    def verify(self) -> Seen | None:
        """See `Injection`."""

    def heal(self) -> Seen:
        """Let requests through; `struck` counts those that were not the tester's alone."""
        struck = self._struck() - self._counted
        for edge in self.edges:
            self.proxy.clear(edge)
        return {"struck": struck}

    def verify_healed(self) -> Seen | None:
        """The answer from before, in about its time."""
        heard = self.ask()
        return {"status": heard.status} if heard.status == self.before.status else None

    def ask(self) -> Heard:
        """A request of its own through the first edge."""
        host, port = self.proxy.address(self.edges[0])
        began = time.monotonic()
        with closing(http.client.HTTPConnection(host, port, timeout=_ANSWER_S)) as connection:
            try:
                connection.request("GET", self.path)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                status = 0
        return Heard(status=status, took_s=time.monotonic() - began)

    def _struck(self) -> int:
        stats = [self.proxy.http_stats(edge) for edge in self.edges]
        return sum(each.requests for each in stats)


class Errors(_OnHttp):
    """Every request is answered with `status`."""

    def rule(self) -> HttpRule:
        """Answer in its place."""
        return HttpRule(status=int(self.params["status"]))

    def verify(self) -> Seen | None:
        """One of our own is."""
        heard = self.ask()
        return {"status": heard.status} if heard.status == int(self.params["status"]) else None


class Refusals(Errors):
    """What carries log lines is answered with `status`; all else passes."""

    path = f"/api{_LOGS}"

    def rule(self) -> HttpRule:
        """That path alone."""
        return HttpRule(status=int(self.params["status"]), path=_LOGS)


class Slow(_OnHttp):
    """Every request is passed on `delay_s` later."""

    def rule(self) -> HttpRule:
        """Hold up."""
        return HttpRule(delay_s=self.params["delay_s"])

    def verify(self) -> Seen | None:
        """One of our own takes that much longer."""
        heard = self.ask()
        rise_s = heard.took_s - self.before.took_s
        return {"rise_s": round(rise_s, 3)} if rise_s >= _TAKEN_EFFECT * self.params["delay_s"] else None


class Dropped(_OnHttp):
    """Every request is carried out; instead of its answer the client gets an RST."""

    def rule(self) -> HttpRule:
        """Pass on and break."""
        return HttpRule(drop=True)

    def verify(self) -> Seen | None:
        """One of our own came there and was not answered."""
        before = self.proxy.http_stats(self.edges[0]).dropped
        heard = self.ask()
        dropped = self.proxy.http_stats(self.edges[0]).dropped - before
        return {"dropped": dropped} if dropped and not heard.status else None


class Flapping(_OnHttp):
    """For `period_s` it answers with `status`, then it is well for as long, and so on."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        super().__init__(system, event, params)
        self.seen: set[int] = set()

    def rule(self) -> HttpRule:
        """By turns."""
        return HttpRule(status=int(self.params["status"]), flap_s=self.params["period_s"])

    def verify(self) -> Seen | None:
        """Both answers were seen."""
        self.seen.add(self.ask().status)
        return {"seen": sorted(self.seen)} if self.seen >= {self.before.status, int(self.params["status"])} else None


def _kind(name: str, made: type[_OnHttp], about: str, params: Mapping[str, float], verify_s: float = 15.0) -> FaultKind:
    def make(system: System, event: Event, params: Mapping[str, float]) -> Injection:
        return made(system, event, params)

    return FaultKind(name=name, about=about, strikes="dependency", make=make, params=params, verify_s=verify_s)


KINDS: tuple[FaultKind, ...] = (
    _kind("http-errors", Errors, "every request is answered with an error of the server", {"status": 503.0}),
    _kind("http-unauthorized", Errors, "every request is answered with 401", {"status": 401.0}),
    _kind("http-rejects", Refusals, "Prefect takes no log lines: 422", {"status": 422.0}),
    _kind("http-slow", Slow, "every request is answered late", {"delay_s": 3.0}),
    _kind("http-dropped", Dropped, "requests are carried out, their answers never come", {}),
    _kind("http-flapping", Flapping, "errors and good answers by turns", {"status": 503.0, "period_s": 1.0}),
)
