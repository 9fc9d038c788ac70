"""Rules about faults: whether they took effect, what they cost, and what they brought to light."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.reports.families import ends_a_worker, family
from rpa_testkit.reports.gather import Gatherer
from rpa_testkit.reports.grid import percentile
from rpa_testkit.reports.model import Advice, FaultSeen, Report
from rpa_testkit.reports.words import count, listed, seconds, short, tally

_AFTER_KILL_S = 15.0
_SPIKE = 3.0
_SPIKE_LEAST_S = 0.1
_BEFORE_S = 5.0
_AFTER_S = 1.0
_LEAST_RECORDS = 50

_LOOK_AT = {
    "network": "that the worker's database URL leads through the proxy's edge and not past it",
    "database": "that the server it struck is the one that the workers use",
    "resources": "that the bound lies below what the worker uses, and that the driver may set it here",
    "process": "that the process it struck is the worker itself and not a parent of it",
    "dependency": "that the worker's service URL leads through the proxy's edge",
}
_SPIKE_ADVICE = {
    "network": "give connections shorter timeouts (TCP_USER_TIMEOUT, keepalives), so that a dead one is given up early",
    "database": "reconnect sooner: a shorter first delay of the retry, and one spare connection in the pool",
    "resources": "leave the worker more room: a higher bound, or smaller chunks",
    "process": "let others take over sooner: a shorter lease, smaller chunks, or one more worker",
    "dependency": "keep the handler from waiting for it: a timeout, a circuit breaker, or a spool",
}


def unverified(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """A fault without a visible effect has tested nothing."""
    for kind, faults in _by_kind(report, "unverified").items():
        why = next((fault.why for fault in faults if fault.why), "nothing was seen of it")
        yield Advice(
            rule="fault-without-effect",
            advice=f"Find out why {kind} has no effect, or take it out: check {_LOOK_AT[family(faults[0])]}.",
            seen=f"{count(len(faults), 'fault')} of kind {kind} could not be verified ({_named(faults)}): {why}.",
            figures={"faults": len(faults)},
            seq=_lines(faults),
        )


def unhealed(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """What followed may be the fault's doing and not the system's."""
    for kind, faults in _by_kind(report, "unhealed").items():
        yield Advice(
            rule="fault-not-healed",
            advice=f"Make {kind} heal before anything else is concluded: what came after it ran on a broken system.",
            seen=f"{_named(faults)}: {faults[0].why or 'the healing was not seen'}.",
            figures={"faults": len(faults)},
            seq=_lines(faults),
        )


def not_run(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """What was planned and not tested here."""
    for kind, faults in _by_kind(report, "not-run").items():
        yield Advice(
            rule="fault-not-run",
            advice=f"Run {kind} where it can be injected; nothing is known about it from this run.",
            seen=f"{count(len(faults), 'fault')} of kind {kind} not run on the {report.header.driver} driver: "
            f"{faults[0].why or 'no reason was given'}.",
            figures={"faults": len(faults)},
            seq=_lines(faults),
        )


def beside_the_work(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """A fault before the first record or after the last one meets nothing that could go wrong."""
    began, ended = seen.first_enqueued, seen.last_done
    idle = [
        fault
        for fault in report.ran
        if fault.inject_s is not None
        and fault.end_s is not None
        and (began is None or fault.end_s < began or fault.inject_s > ended)
    ]
    if idle:
        worked = (
            "there was no work at all" if began is None else f"work went on from {seconds(began)} to {seconds(ended)}"
        )
        yield Advice(
            rule="fault-beside-the-work",
            advice="Lengthen the workload (more records, or a rate), or let the faults begin earlier.",
            seen=f"{count(len(idle), 'fault')} met no work ({_named(idle)}); {worked}.",
            figures={"faults": len(idle), "of": len(report.ran), "last_done_s": ended},
            seq=_lines(idle),
        )


def slow_recovery(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Recovering takes longer than a lease can last."""
    lease_s = seen.longest_lease_s
    slow = [fault for fault in report.ran if fault.recovery_s is not None and 0 < lease_s < fault.recovery_s]
    if slow:
        worst = max(slow, key=lambda fault: fault.recovery_s or 0.0)
        yield Advice(
            rule="recovery-longer-than-lease",
            advice="Shorten CONTAINER_LEASE_TTL: work held by a lost worker is taken over when its lease runs out. If "
            "it is short already, look at how long reconnecting takes (CONTAINER_DATABASE_*_RETRY_CAP).",
            seen=f"After {count(len(slow), 'fault')} ({tally(fault.kind for fault in slow)}) recovering took longer "
            f"than the longest lease seen, {seconds(lease_s)}; the slowest, fault {worst.id} "
            f"({worst.name}), {seconds(worst.recovery_s)}.",
            figures={"lease_s": lease_s, "recovery_s": worst.recovery_s or 0.0, "faults": len(slow)},
            seq=_lines([worst]),
        )


def latency_spikes(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Each fault's p99 beside that of the seconds before it: a backlog that grows anyway is not its doing."""
    ratios: defaultdict[str, list[tuple[float, float, float, FaultSeen]]] = defaultdict(list)
    for fault in report.ran:
        if fault.inject_s is None or fault.end_s is None or not _alone(fault, report):
            continue
        before = _p99(seen, fault.inject_s - _BEFORE_S, fault.inject_s)
        during = _p99(seen, fault.inject_s, fault.end_s + _AFTER_S)
        if before and during:
            ratios[fault.kind].append((during / before, before, during, fault))
    for kind, found in ratios.items():
        typical = median(ratio for ratio, *_ in found)
        _, before, during, fault = max(found, key=lambda each: each[0])
        if typical >= _SPIKE and during - before >= _SPIKE_LEAST_S:
            yield Advice(
                rule="latency-spike",
                advice=f"Under {kind}, {_SPIKE_ADVICE[family(fault)]}.",
                seen=f"p99 rose to {short(typical)} times that of the seconds before (median of "
                f"{count(len(found), 'fault')}); at worst from {seconds(before)} to {seconds(during)}, "
                f"fault {fault.id} on {fault.target}.",
                figures={"ratio": round(typical, 2), "before_s": before, "during_s": during},
                seq=_lines([fault]),
            )


def twice_after_kills(report: Report, seen: Gatherer) -> Iterator[Advice]:
    """Duplicates that come with dying workers are effects outside of the commit."""
    for verdict in report.verdicts:
        if verdict.checker != "no-duplicates" or verdict.status is not Status.FAIL:
            continue
        timed = [evidence for evidence in verdict.evidence if evidence.t is not None]
        near = {
            evidence: fault
            for evidence in timed
            for fault in report.ran
            if ends_a_worker(fault)
            and fault.inject_s is not None
            and 0 <= (evidence.t or 0.0) - fault.inject_s <= _AFTER_KILL_S
        }
        if timed and len(near) == len(timed):
            faults = list({fault.id: fault for fault in near.values()}.values())
            yield Advice(
                rule="twice-after-kills",
                advice="Give the effect an idempotency key (the record's id), or write it in the transaction that "
                "commits the result: a worker that dies in between does it again.",
                seen=f"All {len(timed)} duplicates shown came within {_AFTER_KILL_S:g} s of a worker's end "
                f"({_named(faults)}).",
                figures={"twice": verdict.found},
                seq=tuple(seq for evidence in timed for seq in evidence.seq)[:10] + _lines(faults)[:4],
            )


FAULT_RULES = (unverified, unhealed, twice_after_kills, slow_recovery, latency_spikes, beside_the_work, not_run)


def _by_kind(report: Report, state: str) -> dict[str, list[FaultSeen]]:
    found: defaultdict[str, list[FaultSeen]] = defaultdict(list)
    for fault in report.faults:
        if fault.state == state:
            found[fault.kind].append(fault)
    return found


def _named(faults: list[FaultSeen]) -> str:
    shown = [fault.name for fault in faults[:3]]
    return listed([*shown, f"{len(faults) - 3} more"] if len(faults) > 3 else shown)


def _lines(faults: list[FaultSeen]) -> tuple[int, ...]:
    """Where they were injected, or what else is told of them first, and the line that says how it ended."""
    return tuple(seq for fault in faults[:5] for seq in dict.fromkeys((*fault.seq[:1], *fault.seq[-1:])))


def _alone(fault: FaultSeen, report: Report) -> bool:
    """Whether no other fault was going on in the time that is looked at, so that what is seen is this one's doing."""
    start, end = (fault.inject_s or 0.0) - _BEFORE_S, (fault.end_s or 0.0) + _AFTER_S
    others = (other for other in report.ran if other.id != fault.id)
    return all((other.inject_s or 0.0) > end or (other.end_s or 0.0) < start for other in others)


def _p99(seen: Gatherer, start_s: float, end_s: float) -> float | None:
    grid, bins = seen.grid, Counter[int]()
    for place in range(grid.place(max(0.0, start_s)), grid.place(end_s) + 1):
        bins.update(seen.latencies.get(place, ()))
    return percentile(bins, 0.99) if bins.total() >= _LEAST_RECORDS else None
