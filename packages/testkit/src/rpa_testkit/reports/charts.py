"""Which charts a report shows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rpa_testkit.reports.drawing import (
    WIDTH,
    Curve,
    Plot,
    Tick,
    area,
    curve,
    decades,
    linear,
    logarithmic,
    size_ticks,
    ticks_up_to,
    top_of,
)
from rpa_testkit.reports.families import family
from rpa_testkit.reports.model import NodeUse, Points, Report
from rpa_testkit.reports.words import seconds, short, size

_HEADROOM = 1.05
_LEAST_CORES = 0.1  # less than that is not worth a closer look
_BOUND_IN_SIGHT = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRow:
    """The recoveries after one kind of fault: places (0 to 1000) with what each was, and figures in words."""

    kind: str
    family: str
    dots: tuple[tuple[float, str], ...]
    middle: float
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """All rows over one axis of seconds; `bound` is the place of what the steady state allows, if that is in sight."""

    rows: tuple[RecoveryRow, ...]
    ticks: tuple[Tick, ...]
    bound: float | None
    bound_s: float | None
    unmeasured: int


def plots(report: Report) -> list[Plot]:
    """Throughput and latency over the run's time."""
    found = [_throughput(report)]
    if report.latency:
        found.append(_latencies(report))
    return found


def small_plots(report: Report) -> list[Plot]:
    """The queue, connections, and each node's memory and CPU; all nodes on one scale."""
    found = []
    if _any(report.waiting):
        found.append(_queue(report))
    if _any(report.connections):
        top = top_of([report.connections]) * _HEADROOM
        found.append(_small("connections", "Connections", f"most {top / _HEADROOM:g}", report.connections, top))
    rss = top_of(node.rss_bytes for node in report.nodes) * _HEADROOM
    cpu = max(_LEAST_CORES, top_of(node.cpu for node in report.nodes)) * _HEADROOM
    for number, node in enumerate(report.nodes):
        found += _node(number, node, rss, cpu)
    return found


def recovery_rows(report: Report) -> Recovery | None:
    """None if no recovery was measured."""
    kinds = defaultdict(list)
    for fault in report.ran:
        if fault.recovery_s is not None:
            kinds[fault.kind].append(fault)
    if not kinds:
        return None
    bound = report.header.steady_state.get("recovery_s")
    longest = max(fault.recovery_s or 0.0 for faults in kinds.values() for fault in faults) or 1.0
    in_sight = bound is not None and bound <= _BOUND_IN_SIGHT * longest
    top = max(longest, bound if in_sight and bound else 0.0) * _HEADROOM
    rows = []
    for kind, faults in kinds.items():
        times = [fault.recovery_s or 0.0 for fault in faults]
        rows.append(
            RecoveryRow(
                kind=kind,
                family=family(faults[0]),
                dots=tuple(
                    (
                        round(WIDTH * (f.recovery_s or 0.0) / top, 1),
                        f"{f.id} {f.name}: {seconds(f.recovery_s)}",
                    )
                    for f in faults
                ),
                middle=round(WIDTH * median(times) / top, 1),
                says=_said(times),
            )
        )
    rows.sort(key=lambda row: -row.middle)
    return Recovery(
        rows=tuple(rows),
        ticks=tuple(ticks_up_to(top, seconds, 6)),
        bound=round(WIDTH * bound / top, 1) if in_sight and bound else None,
        bound_s=bound,
        unmeasured=sum(fault.recovery_s is None for fault in report.ran),
    )


def _said(times: Sequence[float]) -> str:
    if len(times) == 1:
        return seconds(times[0])
    return f"\N{MULTIPLICATION SIGN}{len(times)}, median {seconds(median(times))}, slowest {seconds(max(times))}"


def _throughput(report: Report) -> Plot:
    points = report.throughput_rps
    top = top_of([points]) * _HEADROOM
    scale = linear(top)
    idle = sum(not value for value in points) * report.axis.width_s
    return Plot(
        id="throughput",
        title="Throughput",
        note=f"records with an outcome per second, in intervals of {seconds(report.axis.width_s)}",
        says=f"At most {short(top / _HEADROOM)} records per second, {short(report.pace_rps)} over the whole run; "
        f"none in {seconds(idle)} of {seconds(report.duration_s)}.",
        ticks=tuple(ticks_up_to(top, short)),
        curves=(Curve(style="surface", name="records/s", path=area(points, scale)),),
    )


def _latencies(report: Report) -> Plot:
    lines = report.latency_s
    known = [value for points in lines.values() for value in points if value]
    low = 10.0 ** math.floor(math.log10(min(known)))
    high = max(10.0 ** math.ceil(math.log10(max(known))), low * 10)
    scale = logarithmic(low, high)
    latency = report.latency
    said = (
        f"p50 {seconds(latency.p50_s)}, p95 {seconds(latency.p95_s)}, p99 {seconds(latency.p99_s)}, slowest "
        if latency
        else ""
    )
    return Plot(
        id="latency",
        title="Latency",
        note="from enqueueing to outcome, by the time of the outcome; each step of the scale is ten times the last",
        says=f"Over the whole run: {said}{seconds(latency.max_s if latency else None)}.",
        ticks=decades(low, high),
        curves=tuple(Curve(style=name, name=name, path=curve(lines[name], scale)) for name in ("p99", "p95", "p50")),
        legend=True,
    )


def _queue(report: Report) -> Plot:
    top = top_of([report.waiting, report.leased]) * _HEADROOM
    scale = linear(top)
    return Plot(
        id="queue",
        title="Queue",
        note=f"at most {top_of([report.waiting]):,.0f} waiting",
        says=f"At most {top_of([report.waiting]):,.0f} records waiting and {top_of([report.leased]):,.0f} leased.",
        ticks=tuple(ticks_up_to(top, short, 2)),
        curves=(
            Curve(style="p99", name="waiting", path=curve(report.waiting, scale)),
            Curve(style="p50", name="leased", path=curve(report.leased, scale)),
        ),
        legend=True,
    )


def _node(number: int, node: NodeUse, rss: float, cpu: float) -> list[Plot]:
    restarts = f", seen to begin anew {len(node.restarts)} times" if node.restarts else ""
    return [
        Plot(
            id=f"rss-{number}",
            title=f"{node.name} memory",
            note=f"peak {size(node.peak_rss_bytes)}{restarts}",
            says=f"Resident memory of {node.name}: peak {size(node.peak_rss_bytes)}{restarts}.",
            ticks=tuple(size_ticks(rss)),
            curves=(Curve(style="p99", name="resident", path=curve(node.rss_bytes, linear(rss))),),
        ),
        _small(f"cpu-{number}", f"{node.name} CPU", f"mean {node.mean_cpu:.2f} cores", node.cpu, cpu),
    ]


def _small(chart: str, title: str, note: str, points: Points, top: float) -> Plot:
    return Plot(
        id=chart,
        title=title,
        note=note,
        says=f"{title}: {note}.",
        ticks=tuple(ticks_up_to(top, short, 2)),
        curves=(Curve(style="p99", name=title, path=curve(points, linear(top))),),
    )


def _any(points: Sequence[float | None]) -> bool:
    return any(value is not None for value in points)
