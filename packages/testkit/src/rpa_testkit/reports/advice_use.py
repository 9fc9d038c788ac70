"""Rules about what the run used and how it kept up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, median

from rpa_testkit.reports.gather import Gatherer
from rpa_testkit.reports.model import Advice, Axis, NodeUse, Points, Report
from rpa_testkit.reports.words import count, listed, seconds, short, size

_GROWTH = 1.25
_GROWTH_LEAST_BYTES = 16 << 20
_LEAST_SAMPLES = 24
_WARM_UP = 0.1
_PINNED_CORES = 0.9
_PINNED_SHARE = 0.6
_NEAR_LIMIT = 0.8
_SLOW_DRAIN = 0.5
_SIGMAS = 4.0
_BACKLOG_LEAST = 100


def growing_memory(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Resident memory that rises from quarter to quarter of a life without a restart."""
    for node in report.nodes:
        life = _longest_life(node, report.axis)
        if len(life) < _LEAST_SAMPLES:
            continue
        life = life[math.ceil(len(life) * _WARM_UP) :]
        quarter = len(life) // 4
        first, *_, last = quarters = [median(life[quarter * n : quarter * (n + 1)]) for n in range(4)]
        if quarters == sorted(quarters) and last >= first * _GROWTH and last - first >= _GROWTH_LEAST_BYTES:
            yield Advice(
                rule="memory-grows",
                advice=f"Look for what {node.name} keeps: run it longer, and compare a heap profile of its first "
                "minute with one of its last. Until it is found, a smaller CONTAINER_CLAIM_RECORDS keeps less at once.",
                seen=f"{node.name} grew from {size(first)} to {size(last)} (medians of the first and the last quarter "
                "of its longest life, start-up left out) and in every quarter between.",
                figures={"first_bytes": first, "last_bytes": last},
            )


def pinned_cpu(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """A worker that computes all the time is what bounds the pace."""
    busy = []
    for node in report.nodes:
        known = [cores for cores in node.cpu if cores is not None]
        if len(known) >= _LEAST_SAMPLES and sum(c >= _PINNED_CORES for c in known) >= _PINNED_SHARE * len(known):
            busy.append(node)
    if busy:
        yield Advice(
            rule="cpu-bound",
            advice="Add workers, if the machine has cores left, or make the handler cheaper: more concurrency within "
            "one process gains nothing here.",
            seen=f"{listed(node.name for node in busy)} used {_PINNED_CORES:g} cores or more for most of the run "
            f"({', '.join(f'{node.name} {node.mean_cpu:.2f}' for node in busy)} cores on average).",
            figures={node.name: round(node.mean_cpu, 3) for node in busy},
        )


def near_connection_limit(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Where the server's limit is known."""
    limit = report.header.topology.get("max_connections")
    most = max((value for value in report.connections if value is not None), default=0.0)
    if limit and most >= _NEAR_LIMIT * limit:
        yield Advice(
            rule="connections-near-limit",
            advice="Lower CONTAINER_DATABASE_*_POOL_SIZE, run fewer workers, or raise max_connections: at the limit a "
            "restarted worker is turned away.",
            seen=f"{most:g} of the server's {limit} connections were open at once.",
            figures={"connections": most, "limit": limit},
        )


def backlog_before_faults(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """A queue that grows while nothing is broken: the workload's rate is above what this system can do."""
    rate = report.header.workload.get("rate") or 0.0
    first = min((fault.inject_s for fault in report.ran if fault.inject_s is not None), default=report.duration_s)
    before = [v for v in report.waiting[: int((first - report.axis.start_s) / report.axis.width_s)] if v is not None]
    if not rate or len(before) < 4:
        return
    half = len(before) // 2
    early, late = fmean(before[:half]), fmean(before[half:])
    if before[-1] == max(before) and before[-1] >= _BACKLOG_LEAST and late > 1.5 * early:
        yield Advice(
            rule="backlog-before-faults",
            advice="Lower the workload's rate or add workers: this system falls behind without any fault, so what the "
            "faults cost cannot be told from it.",
            seen=f"The queue had grown to {before[-1]:,.0f} records by {seconds(first)}, before the first fault, at "
            f"{rate:g} records/s; the run's pace was {short(report.pace_rps)}/s.",
            figures={"waiting": before[-1], "rate": rate, "pace_rps": round(report.pace_rps, 1)},
        )


def slow_drain(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Draining used up much of the time it is allowed, or never ended."""
    bound = report.header.steady_state.get("drain_s")
    since = report.marks.get("healed")
    if not bound or since is None:
        return
    ended = report.marks.get("drained")
    took = (ended if ended is not None else report.duration_s) - since
    if ended is None or took > _SLOW_DRAIN * bound:
        yield Advice(
            rule="slow-drain",
            advice="Look at what is waited for after the last healing: leases that must run out, delays of retries, "
            "or a pace too low for the backlog that the faults leave.",
            seen=f"After the last healing the queue {'drained in' if ended is not None else 'had not drained after'} "
            f"{seconds(took)}, of {seconds(bound)} allowed.",
            figures={"drain_s": round(took, 3), "allowed_s": bound},
        )


def more_dead_letters(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """More dead letters than the workload asks for, beyond chance."""
    share = report.header.workload.get("reject_share")
    counts = report.counts
    if share is None or not counts.found:
        return
    expected = share * counts.found
    if counts.dead > expected + _SIGMAS * math.sqrt(max(1.0, expected * (1 - share))):
        yield Advice(
            rule="more-dead-letters",
            advice="Read the dead letters' errors (`rpa records failed`): faults use up attempts that the handler was "
            "meant to have. Raise CONTAINER_MAX_TRIES, or do not count those that an outage ended.",
            seen=f"{counts.dead:,} dead letters where the workload asks for about {expected:,.0f} of "
            f"{counts.found:,} records.",
            figures={"dead": counts.dead, "expected": round(expected, 1)},
        )


def unplanned_ends(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Workers that ended, or were killed for their memory, without a fault that asked for it."""
    for found, rule, what, advice in (
        (seen.oom, "killed-for-memory", "was killed for its memory bound",
         "Raise the bound or shrink the chunk: no memory fault had hold of it."),
        (seen.unexpected_exits, "worker-ended", "ended on its own",
         "Read the worker's log: a worker ended that no fault had ended."),
    ):  # fmt: skip
        unplanned = [(seq, t, node) for seq, t, node in found if not _under_fault(report, t, node)]
        if unplanned:
            nodes = listed(dict.fromkeys(node for _, _, node in unplanned))
            yield Advice(
                rule=rule,
                advice=advice,
                seen=f"{nodes} {what}, {count(len(unplanned), 'time')}, first at {seconds(unplanned[0][1])}.",
                figures={"times": len(unplanned)},
                seq=tuple(seq for seq, _, _ in unplanned[:5]),
            )


def low_pace(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Below the scenario's own minimum."""
    least = report.header.steady_state.get("min_rate") or 0.0
    if report.counts.found and report.pace_rps < least:
        yield Advice(
            rule="pace-below-minimum",
            advice="Compare with a run without faults: if that is slow too, it is the handler, the chunk's size or the "
            "machine; if not, it is the time that recovering takes.",
            seen=f"{short(report.pace_rps)} records/s over the run, of at least {short(least)}.",
            figures={"pace_rps": round(report.pace_rps, 2), "least_rps": least},
        )


USE_RULES = (
    low_pace,
    backlog_before_faults,
    slow_drain,
    more_dead_letters,
    unplanned_ends,
    growing_memory,
    pinned_cpu,
    near_connection_limit,
)


def _longest_life(node: NodeUse, axis: Axis) -> list[float]:
    starts = [
        0,
        *(int((t - axis.start_s) / axis.width_s) for t in node.restarts if t > axis.start_s),
        len(node.rss_bytes),
    ]
    lives = [_known(node.rss_bytes[start:end]) for start, end in pairwise(starts)]
    return max(lives, key=len)


def _known(values: Points) -> list[float]:
    return [value for value in values if value is not None]


def _under_fault(report: Report, t: float, node: str) -> bool:
    return any(
        fault.inject_s is not None
        and fault.end_s is not None
        and fault.inject_s <= t <= fault.end_s + 1.0
        and fault.target.partition("->")[0] in (node, "postgres")
        for fault in report.ran
    )
