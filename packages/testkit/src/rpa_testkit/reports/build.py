"""History and judgement in, report out: one pass, whatever the history's length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rpa_testkit.checkers.verdict import Judgement, Status, Verdict
from rpa_testkit.history.entries import Kind, Phase
from rpa_testkit.history.reader import History, HistoryError
from rpa_testkit.reports.excerpts import Window, windows
from rpa_testkit.reports.gather import Gatherer, Life, Node
from rpa_testkit.reports.grid import Layer, percentile
from rpa_testkit.reports.model import Axis, Counts, FaultSeen, Latency, NodeUse, Points, Report
from rpa_testkit.reports.recommend import recommend

_SECOND_FROM_S = 60.0  # longer runs are drawn by the second or coarser
_PACE_BEFORE_S = 5.0
_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def build(history: History, judgement: Judgement) -> Report:
    """Read the history once. One that cannot be read to its end is reported as far as it goes, and as cut off."""
    seen = Gatherer()
    around = list(windows(judgement.verdicts))
    cut_off = _read(history, seen, around)
    recoveries = _recoveries(judgement.verdicts) or _measured(seen, history.header.steady_state)
    while seen.grid.width_s < 1.0 and seen.end_s > _SECOND_FROM_S:
        seen.grid.coarsen()
    first = seen.grid.place(seen.marks.get("begun", 0.0))
    width_s = seen.grid.width_s
    axis = Axis(width_s=width_s, count=seen.grid.place(seen.end_s) + 1 - first, start_s=first * width_s)
    places = range(first, first + axis.count)
    report = Report(
        header=history.header,
        verdicts=judgement.verdicts,
        axis=axis,
        throughput_rps=tuple(seen.completed.get(place, 0.0) / width_s for place in places),
        latency_s={
            name: tuple(_of(seen.latencies.get(place), share) for place in places)
            for name, share in _PERCENTILES.items()
        },
        waiting=_points(seen.waiting, places),
        leased=_points(seen.leased, places),
        connections=_points(seen.connections, places),
        nodes=tuple(_node(name, node, places) for name, node in seen.nodes.items()),
        faults=(*(_fault(life, seen, recoveries) for life in seen.lives.values()), *_never_came(seen)),
        latency=_latency(seen),
        counts=_counts(seen, judgement.verdicts, told=not cut_off),
        pace_rps=_pace(seen),
        duration_s=seen.end_s,
        marks=seen.marks,
        excerpts=tuple(window.excerpt() for window in around),
        cut_off=cut_off,
    )
    return replace(report, advice=recommend(report, seen))


def _read(history: History, seen: Gatherer, around: list[Window]) -> str:
    cited = frozenset[int]().union(*(window.cited for window in around))
    outcome_kind, outcome, line = Kind.OUTCOME.value, seen.outcome, seen.line
    try:
        for entry in history:
            if entry.kind == outcome_kind:
                outcome(entry.value)
                if entry.seq not in cited:
                    continue  # written after the drain, all at once: their time says nothing about what was near
            else:
                line(entry)
            for window in around:
                window.line(entry)
    except HistoryError as error:
        return str(error)
    return "" if "ended" in seen.marks else f"{history.path} stops before the run's end"


def _points(layer: Layer[float], places: range) -> Points:
    return tuple(layer.get(place) for place in places)


def _of(bins: Mapping[int, int] | None, share: float) -> float | None:
    return percentile(bins, share) if bins else None


def _latency(seen: Gatherer) -> Latency | None:
    if not seen.all_latencies:
        return None
    # A bin is as wide as 2 %: its middle may lie above the largest that was in it.
    p50, p95, p99, p999 = (
        min(percentile(seen.all_latencies, share) or 0.0, seen.slowest_s) for share in (0.5, 0.95, 0.99, 0.999)
    )
    return Latency(p50_s=p50, p95_s=p95, p99_s=p99, p999_s=p999, max_s=seen.slowest_s)


def _pace(seen: Gatherer) -> float:
    span = seen.last_done - (seen.first_enqueued or 0.0)
    return (seen.done + seen.dead) / span if span > 0 else 0.0


def _counts(seen: Gatherer, verdicts: tuple[Verdict, ...], *, told: bool) -> Counts:
    missing = max(0, seen.acknowledged - seen.found) + seen.without
    return Counts(
        acknowledged=seen.acknowledged,
        indeterminate=seen.indeterminate,
        found=seen.found,
        done=seen.done,
        dead=seen.dead,
        unfinished=seen.unfinished,
        lost=_judged(verdicts, "no-lost", "lost", missing if told else None),
        twice=_judged(verdicts, "no-duplicates", "duplicates", seen.twice if told else None),
    )


def _judged(verdicts: tuple[Verdict, ...], checker: str, figure: str, otherwise: int | None) -> int | None:
    """What the checker found, so that the page never says something else than the verdict beside it."""
    for verdict in verdicts:
        if verdict.checker == checker and verdict.status is not Status.UNKNOWN:
            return int(verdict.figures.get(figure, verdict.found))
    return otherwise


def _node(name: str, node: Node, places: range) -> NodeUse:
    cpu = tuple(node.cpu_s[place] / node.measured_s[place] if node.measured_s.get(place) else None for place in places)
    return NodeUse(
        name=name,
        rss_bytes=_points(node.rss, places),
        cpu=cpu,
        peak_rss_bytes=node.peak,
        mean_cpu=node.used_s / node.up_s if node.up_s else 0.0,
        restarts=tuple(node.restarts),
    )


def _fault(life: Life, seen: Gatherer, recoveries: Mapping[int, float]) -> FaultSeen:
    phases = life.phases
    if Phase.NOT_RUN in phases:
        state = "not-run"
    elif Phase.UNVERIFIED in phases or (Phase.VERIFIED not in phases and Phase.HEALED in phases):
        state = "unverified"
    elif Phase.UNHEALED in phases:
        state = "unhealed"
    else:
        state = "verified" if Phase.HEALED in phases else "open"
    ran = state != "not-run"
    return FaultSeen(
        id=life.id,
        kind=life.kind,
        target=life.target,
        params=life.params,
        state=state,
        why=life.why,
        inject_s=min(phases.values()) if ran else None,
        end_s=phases.get(Phase.HEALED, phases.get(Phase.UNHEALED, seen.end_s)) if ran else None,
        recovery_s=recoveries.get(life.id),
        seq=tuple(life.seq),
    )


def _never_came(seen: Gatherer) -> Iterator[FaultSeen]:
    for number, kind in seen.scheduled.items():
        if number not in seen.lives:
            why = "it was scheduled, and the run ended before it came"
            yield FaultSeen(
                id=number,
                kind=kind,
                target="",
                params={},
                state="not-run",
                why=why,
                inject_s=None,
                end_s=None,
                recovery_s=None,
                seq=(),
            )


def _recoveries(verdicts: tuple[Verdict, ...]) -> dict[int, float]:
    """The recovery checker's own figures: `faults` lists each with its `id` and `recovery_s`."""
    for verdict in verdicts:
        if verdict.checker == "recovery":
            told: Sequence[Mapping[str, Any]] = verdict.figures.get("faults", ())
            return {fault["id"]: fault["recovery_s"] for fault in told if fault["recovery_s"] is not None}
    return {}


def _measured(seen: Gatherer, steady_state: Mapping[str, float]) -> dict[int, float]:
    """From each healing to the first second at the wanted share of the pace in the seconds before the fault."""
    grid, share = seen.grid, steady_state.get("recovered_share", 0.9)
    window = max(1, round(1.0 / grid.width_s))
    done = Counter(seen.completed)
    found: dict[int, float] = {}
    for life in seen.lives.values():
        began, healed = life.phases.get(Phase.INJECT), life.phases.get(Phase.HEALED)
        if began is None or healed is None or healed >= seen.last_done:
            continue
        first, before = grid.place(max(0.0, began - _PACE_BEFORE_S)), grid.place(began)
        pace = sum(done[place] for place in range(first, before)) / max(1, before - first)
        start, end = grid.place(healed), grid.place(seen.last_done)
        for place in range(start, end + 1):
            if sum(done[later] for later in range(place, place + window)) >= share * pace * window:
                found[life.id] = max(0.0, place * grid.width_s - healed)
                break
    return found
