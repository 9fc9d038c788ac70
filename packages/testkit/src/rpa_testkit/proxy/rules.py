"""What is asked of an edge, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Toward = Literal["both", "server", "client"]
Speaks = Literal["postgres", "http"]
Answer = Literal["answered", "refused", "silent", "closed"]


class ProxyError(RuntimeError):
    """The proxy cannot do that, or is not there; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How an edge treats bytes; the default lets everything through.

    toward       which bytes: `server` those that the client sends, `client` those that it is sent.
    latency_s    every piece is this much later, in each direction covered.
    jitter_s     and up to this much more, drawn anew for every piece; the order of bytes stays.
    bytes_per_s  bandwidth of the edge in each direction covered, shared fairly by its connections; 0 = no bound.
    stall        bytes are held and delivered in order once the rule is gone; a new connection gets no answer.
    refuse       new connections are reset at once, whatever `toward` says.
    """

    toward: Toward = "both"
    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    stall: bool = False
    refuse: bool = False

    def __post_init__(self) -> None:
        """ValueError for what cannot be meant."""
        if self.toward not in get_args(Toward):
            raise ValueError(f"a rule is toward {' or '.join(get_args(Toward))}, not {self.toward!r}")
        for name in ("latency_s", "jitter_s", "bytes_per_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"a rule's {name} is 0 or more, not {getattr(self, name)!r}")

    def covers(self, toward: Literal["server", "client"]) -> bool:
        """Whether it is about bytes in this direction."""
        return self.toward in ("both", toward)

    def to_json(self) -> dict[str, Any]:
        """For the wire; `Rule(**given)` is the reverse."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeStats:
    """An edge's state and its counters since it was opened.

    open             connections whose client side is open now.
    accepted         connections taken so far, without those refused.
    refused          connections reset because of the rule or because the upstream could not be reached.
    to_server_bytes  passed on to the upstream; to_client_bytes likewise.
    held_bytes       received and not passed on yet, in both directions.
    joined           connections whose both sides are open now.
    unheard_bytes    held on their way to the upstream by connections that `cut_late` would strike: both sides stand.
    half_open        connections whose client side is open while their server side was taken away.
    late_bytes       delivered to the upstream by `cut_late` after their client had been cut off.
    delayed_s        the sum of all delays given to pieces; with the same seed and traffic it is the same.
    """

    open: int
    accepted: int
    refused: int
    to_server_bytes: int
    to_client_bytes: int
    held_bytes: int
    joined: int = 0
    unheard_bytes: int = 0
    half_open: int = 0
    late_bytes: int = 0
    delayed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """How an attempt to get a sign of life ended, and after how many seconds.

    outcome  answered; refused (RST or no listener); silent (nothing came in time); closed (ended without an answer).
    rtt_s    from sending the request to the answer's first byte, or to the end of the attempt.
    """

    outcome: Answer
    rtt_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeInfo:
    """Where an edge listens, where it leads, and how its upstream is asked for a sign of life."""

    name: str
    host: str
    port: int
    upstream: tuple[str, int]
    protocol: Speaks = "postgres"

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> EdgeInfo:
        """The reverse of `asdict` on the wire."""
        host, port = given["upstream"]
        return cls(**{**given, "upstream": (host, port)})
