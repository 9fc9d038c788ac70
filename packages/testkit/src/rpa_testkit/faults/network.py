"""Faults of the connection between two nodes: each strikes one edge of the proxy, and is seen through that edge.

What was asked of the proxy proves nothing. So each looks at the edge as a client would: it connects through it, asks
the upstream for a sign of life, keeps a connection of its own to see what becomes of those that stand, and reads how
many bytes went through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

from rpa_testkit.drivers.protocol import System
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.proxy.client import EdgeStats, Line, ProbeResult, Proxy, Rule
from rpa_testkit.proxy.probe import MOST_PADDING
from rpa_testkit.scenario.plan import Event
from rpa_testkit.waits import WaitTimeoutError, until
from rpa_testkit.warden.undo import ClearEdge, Undo

_BASELINE_PROBES = 3
_PROBE_S = 5.0
_SILENCE_S = 0.4  # and twenty round trips at least: who has not answered by then does not answer
_TAKEN_EFFECT = 0.8  # of what was asked
_NEAR_S = (0.01, 0.05)  # how far from the baseline a round trip may be afterwards, at least and at most
_BYTES_PER_S = (1_000, 100_000)  # what the longest probe can tell from an edge without a bound
_GATHER_S = 30.0  # a worker that comes back from an outage may be in its backoff
_HOLD_S = 1.0
_BETWEEN_S = 0.25


class _OnEdge(ABC):
    """What all of them share."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        if "->" not in event.target:
            raise ValueError(f"{event.kind} strikes an edge such as worker-1->postgres, not {event.target!r}")
        self.kind = event.kind
        self.edge = event.target
        self.params = params
        self.proxy: Proxy = system.proxy
        self.baseline_s = 0.0
        self.asked_s = 0.0  # by how much a round trip is to become longer
        self.padding_bytes = 0

    def undo(self) -> tuple[Undo, ...]:
        """All rules off the edge."""
        return (ClearEdge(host=self.proxy.host, port=self.proxy.port, edge=self.edge),)

    def inject(self) -> Seen:
        """Measure the edge as it is, then strike. RuntimeError if it does not answer even before."""
        probes = [self.probe(_PROBE_S) for _ in range(_BASELINE_PROBES)]
        round_trips = [probe.rtt_s for probe in probes if probe.outcome == "answered"]
        if not round_trips:
            raise RuntimeError(f"{self.kind}: {self.edge} was {probes[-1].outcome} before anything was done to it")
        self.baseline_s = min(round_trips)
        return {"baseline_s": round(self.baseline_s, 6), **self.strike()}

    @abstractmethod
    def strike(self) -> Seen:
        """Do it; what was seen of it at once."""

    @abstractmethod
    def verify(self) -> Seen | None:
        """See `Injection`."""

    def heal(self) -> Seen:
        """Take the rule away."""
        held = self.stats().held_bytes
        self.proxy.clear(self.edge)
        return {"held_bytes": held}

    def verify_healed(self) -> Seen | None:
        """An answer, about as fast as before, and nothing half open."""
        least, most = _NEAR_S
        probe, stats = self.probe(_PROBE_S), self.stats()
        near = probe.rtt_s <= self.baseline_s + (min(max(self.asked_s / 2, least), most) if self.asked_s else most)
        if probe.outcome != "answered" or not near or stats.half_open:
            return None
        return {"rtt_s": round(probe.rtt_s, 6), "open": stats.open}

    def probe(self, timeout_s: float) -> ProbeResult:
        """A new connection through the edge."""
        return self.proxy.probe(self.edge, timeout_s, padding_bytes=self.padding_bytes)

    def stats(self) -> EdgeStats:
        """The edge's counters."""
        return self.proxy.stats(self.edge)

    def silence_s(self) -> float:
        """How long to wait until no answer means silence."""
        return max(_SILENCE_S, 20 * self.baseline_s)

    def rule(self, rule: Rule) -> None:
        """Ask it of the proxy."""
        self.proxy.set_rule(self.edge, rule)


class Partition(_OnEdge):
    """Nothing gets through, both ways or one way; what is sent meanwhile comes when it is healed."""

    toward: Literal["both", "server", "client"] = "both"

    def strike(self) -> Seen:
        """Hold."""
        self.rule(Rule(toward=self.toward, stall=True))
        return {}

    def verify(self) -> Seen | None:
        """No answer to a new connection, and not one byte the closed way; the open way shows that it is open."""
        before = self.stats()
        probe = self.probe(self.silence_s())
        after = self.stats()
        to_server = after.to_server_bytes - before.to_server_bytes
        to_client = after.to_client_bytes - before.to_client_bytes
        closed = {"server": to_server, "client": to_client, "both": to_server + to_client}[self.toward]
        # The probe's own request reaches a server that cannot answer. A server that hears nothing says nothing by
        # itself, so that the other open way can only be told, not demanded.
        shown = to_server > 0 if self.toward == "client" else True
        if probe.outcome != "silent" or closed or not shown:
            return None
        return {"probe": probe.outcome, "to_server_bytes": to_server, "to_client_bytes": to_client}


class PartitionToServer(Partition):
    """The client is not heard any more, but hears."""

    toward = "server"


class PartitionToClient(Partition):
    """The client hears nothing any more, but is heard."""

    toward = "client"


class _Slow(_OnEdge):
    """A round trip takes longer."""

    def verify(self) -> Seen | None:
        """It does, by four fifths of what was asked at least."""
        probe = self.probe(_PROBE_S + 10 * self.asked_s)
        rise_s = probe.rtt_s - self.baseline_s
        if probe.outcome != "answered" or rise_s < _TAKEN_EFFECT * self.asked_s:
            return None
        return {"rtt_s": round(probe.rtt_s, 6), "rise_s": round(rise_s, 6), "asked_s": round(self.asked_s, 6)}


class Latency(_Slow):
    """Each way takes `latency_s` longer, and up to `jitter_s` more."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        super().__init__(system, event, params)
        if params["latency_s"] <= 0:
            raise ValueError(f"{self.kind}: latency_s is above 0, as jitter alone cannot be verified")
        self.asked_s = 2 * params["latency_s"]
        self._rule = Rule(latency_s=params["latency_s"], jitter_s=params["jitter_s"])

    def strike(self) -> Seen:
        """Delay."""
        self.rule(self._rule)
        return {}


class Bandwidth(_Slow):
    """`bytes_per_s` each way for all of the edge's connections together."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        super().__init__(system, event, params)
        (least, most), rate = _BYTES_PER_S, params["bytes_per_s"]
        if not least <= rate <= most:
            raise ValueError(f"{self.kind}: bytes_per_s is {least} to {most}, where a probe can tell, not {rate:g}")
        self.padding_bytes = MOST_PADDING
        self.asked_s = MOST_PADDING / rate
        self._rule = Rule(bytes_per_s=rate)

    def strike(self) -> Seen:
        """Make it narrow."""
        self.rule(self._rule)
        return {}


class _OnStanding(_OnEdge):
    """Strikes connections that stand; one of the tester's own shows what becomes of them."""

    def __init__(self, system: System, event: Event, params: Mapping[str, float]) -> None:
        super().__init__(system, event, params)
        self.line: Line | None = None
        self.told: str = ""

    def dial(self) -> None:
        """Connect."""
        self.line = self.proxy.dial(self.edge, _PROBE_S)

    def ask(self) -> str:
        """What the tester's own connection says now; asked once, for it stays as it is."""
        if not self.told and self.line is not None:
            self.told = self.line.ask(self.silence_s()).outcome
        return self.told

    def gather(self, seen: Callable[[], object], what: str) -> None:
        """Wait until there is something to strike."""
        try:
            until(seen, _GATHER_S, what, every_s=_BETWEEN_S)
        except WaitTimeoutError as error:
            raise RuntimeError(f"{self.kind}: nothing to strike on {self.edge}: {error}") from error

    def heal(self) -> Seen:
        """Take the rule away."""
        seen = super().heal()
        if self.line is not None:
            self.line.cut()
        return seen


class Reset(_OnStanding):
    """All connections get an RST, and new ones too."""

    def strike(self) -> Seen:
        """Refuse, then reset."""
        self.dial()
        before = self.stats()
        self.rule(Rule(refuse=True))
        self.proxy.reset(self.edge)
        return {"open": before.open - 1}

    def verify(self) -> Seen | None:
        """None stands, the tester's own had an RST, a new one is refused."""
        if self.ask() != "refused" or self.stats().open or self.probe(_PROBE_S).outcome != "refused":
            return None
        return {"probe": "refused", "open": 0}


class HalfOpen(_OnStanding):
    """The server's side of all connections is gone; the client's side does not know. New connections work."""

    struck = 0

    def strike(self) -> Seen:
        """Wait for somebody else's connection, then strike."""
        self.gather(lambda: self.stats().open > 0, "an open connection")
        self.dial()
        self.proxy.half_open(self.edge)
        self.struck = self.stats().half_open - 1
        return {"struck": self.struck}

    def verify(self) -> Seen | None:
        """Others than the tester's own were struck; that one is open and silent; a new one is answered."""
        if self.struck < 1 or self.ask() != "silent" or self.probe(_PROBE_S).outcome != "answered":
            return None
        return {"struck": self.struck, "standing": "silent", "new": "answered"}


class Late(_OnStanding):
    """The client is cut off; what it had sent arrives `delay_s` later, when somebody else may have its work."""

    held_bytes = 0
    before_bytes = 0

    def strike(self) -> Seen:
        """Hold what is sent until there is something, cut, and let new connections through."""
        self.dial()
        self.before_bytes = self.stats().late_bytes
        self.gather(self._hold, "something to be sent")
        return {"held_bytes": self.held_bytes}

    def _hold(self) -> bool:
        """Hold for a moment. Between two moments comes back who has lost his session to the fault before."""
        self.rule(Rule(toward="server", stall=True))
        try:
            return until(self._cut, _HOLD_S, "something to be sent")
        except WaitTimeoutError:
            return False
        finally:
            self.proxy.clear(self.edge)

    def _cut(self) -> bool:
        """Cut if somebody has sent something: who has left by himself, or just comes, would only be thrown out."""
        if self.stats().unheard_bytes:
            self.held_bytes = self.proxy.cut_late(self.edge, self.params["delay_s"])
        return self.held_bytes > 0

    def verify(self) -> Seen | None:
        """The tester's own connection had an RST, and all that was held has arrived."""
        late = self.stats().late_bytes - self.before_bytes
        if not self.held_bytes or self.ask() != "refused" or late < self.held_bytes:
            return None
        return {"late_bytes": late, "standing": "refused"}


def _kind(name: str, made: type[_OnEdge], about: str, params: Mapping[str, float], verify_s: float = 10.0) -> FaultKind:
    def make(system: System, event: Event, params: Mapping[str, float]) -> Injection:
        return made(system, event, params)

    return FaultKind(name=name, about=about, strikes="edge", make=make, params=params, verify_s=verify_s)


KINDS: tuple[FaultKind, ...] = (
    _kind("partition", Partition, "nothing gets through, both ways", {}),
    _kind("partition-to-server", PartitionToServer, "the worker is not heard, but hears", {}),
    _kind("partition-to-client", PartitionToClient, "the worker hears nothing, but is heard", {}),
    _kind("latency", Latency, "each way takes longer", {"latency_s": 0.1, "jitter_s": 0.02}, 20.0),
    _kind("bandwidth", Bandwidth, "a narrow line, both ways", {"bytes_per_s": 50_000.0}, 30.0),
    _kind("reset", Reset, "all connections are reset, new ones refused", {}),
    _kind("half-open", HalfOpen, "the server's side of all connections is gone, the worker's stays", {}),
    _kind("late", Late, "connections are cut, what was sent arrives later", {"delay_s": 2.0}, 60.0),
)
