"""A report as plain values: what every form of it is made from. Times are seconds since the run began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rpa_testkit.checkers.verdict import Status, Verdict, worst
from rpa_testkit.history.entries import Header

Points = tuple[float | None, ...]
"""One value per interval of the report's axis; None where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Intervals of `width_s` seconds from `start_s` on, when the workload began: what came before is not drawn."""

    width_s: float
    count: int
    start_s: float = 0.0

    @property
    def end_s(self) -> float:
        """Where the last interval ends."""
        return self.start_s + self.width_s * self.count

    def share(self, t: float) -> float:
        """Where a time lies between start and end, 0 to 1 for what is drawn."""
        return (t - self.start_s) / (self.width_s * self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From a record's enqueueing to its outcome, over all records; percentiles are within 1 %, `max_s` is exact."""

    p50_s: float
    p95_s: float
    p99_s: float
    p999_s: float
    max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Records. `lost` and `twice` are the checkers' where they have judged, else as the outcomes show them.

    Both are None where nobody can tell, as the history ends before the outcomes.

    acknowledged  enqueued with a commit that was confirmed.
    indeterminate enqueued with an answer that never came.
    found         records that the database held after the drain.
    done, dead, unfinished  of those: with a result, with a dead letter, with neither yet.
    """

    acknowledged: int
    indeterminate: int
    found: int
    done: int
    dead: int
    unfinished: int
    lost: int | None
    twice: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSeen:
    """One fault as it went.

    state      verified (took effect and was healed), unverified, unhealed, open (the run ended first), not-run.
    inject_s   None where it was not run. `end_s` is its healing, or the run's end.
    recovery_s from the healing until work went on at its pace; None where that could not be measured.
    seq        the history's lines about it.
    """

    id: int
    kind: str
    target: str
    params: Mapping[str, float]
    state: str
    why: str
    inject_s: float | None
    end_s: float | None
    recovery_s: float | None
    seq: tuple[int, ...]

    @property
    def name(self) -> str:
        """`pause on worker-1`."""
        return f"{self.kind} on {self.target}" if self.target else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What one node used. `cpu` is in cores. `restarts` are the times at which it was seen to have begun anew."""

    name: str
    rss_bytes: Points
    cpu: Points
    peak_rss_bytes: int
    mean_cpu: float
    restarts: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the history, its value shortened; `cited` if the evidence names it."""

    seq: int
    t: float
    actor: str
    what: str
    text: str
    cited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The history around a checker's first violation. `left_out` lines of the same seconds are not shown."""

    checker: str
    around_s: float | None
    lines: tuple[Line, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do, and what was seen that says so: in words, as figures, and as lines of the history."""

    rule: str
    advice: str
    seen: str
    figures: Mapping[str, float] = field(default_factory=dict)
    seq: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything said about one run.

    pace_rps  records with an outcome per second, from the first enqueued to the last outcome.
    marks     when what was reached: begun, workload-done, healed, drained, ended.
    cut_off   why the history could not be read to its end; empty if it could.
    """

    header: Header
    verdicts: tuple[Verdict, ...]
    axis: Axis
    throughput_rps: Points
    latency_s: Mapping[str, Points]
    waiting: Points
    leased: Points
    connections: Points
    nodes: tuple[NodeUse, ...]
    faults: tuple[FaultSeen, ...]
    latency: Latency | None
    counts: Counts
    pace_rps: float
    duration_s: float
    marks: Mapping[str, float]
    excerpts: tuple[Excerpt, ...]
    advice: tuple[Advice, ...] = ()
    cut_off: str = ""

    @property
    def status(self) -> Status:
        """The worst verdict; a history that was cut off cannot pass."""
        judged = worst(verdict.status for verdict in self.verdicts)
        return Status.UNKNOWN if self.cut_off and judged is Status.PASS else judged

    @property
    def ran(self) -> tuple[FaultSeen, ...]:
        """The faults that were injected."""
        return tuple(fault for fault in self.faults if fault.inject_s is not None)

    @property
    def not_run(self) -> tuple[FaultSeen, ...]:
        """The faults that were not."""
        return tuple(fault for fault in self.faults if fault.inject_s is None)

    def verdict(self, checker: str) -> Verdict | None:
        """One checker's verdict."""
        return next((verdict for verdict in self.verdicts if verdict.checker == checker), None)
