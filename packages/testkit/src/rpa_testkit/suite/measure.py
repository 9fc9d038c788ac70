"""A run's figures, from its history in one pass."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from rpa_testkit.history.entries import Entry, Kind
from rpa_testkit.history.reader import History
from rpa_testkit.scenario.model import POSTGRES
from rpa_testkit.suite.results import PerformanceMetrics

PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """metrics as in PerformanceMetrics; latency_s by percentile, exact; cpu_s and peak_rss_bytes by node.

    busy      workers that ended at least one record.
    measured  records that ended between the first and the last sample, over which CPU time is counted.
    """

    metrics: PerformanceMetrics
    latency_s: Mapping[str, float]
    cpu_s: Mapping[str, float]
    peak_rss_bytes: Mapping[str, int]
    busy: Mapping[str, int]
    measured: int


def measure(history: History) -> Measured:
    """HistoryError if it cannot be read to its end."""
    seen = _Seen(frozenset(history.header.topology.get("nodes", ())) - {POSTGRES})
    for entry in history:
        if entry.kind == Kind.OUTCOME:
            seen.outcome(entry)
        elif entry.kind == Kind.METRIC and entry.op == "sample":
            seen.sample(entry)
    return seen.measured()


class _Seen:
    def __init__(self, workers: frozenset[str]) -> None:
        self._workers = workers
        self._took = array("d")
        self._first = float("inf")
        self._last = 0.0
        self._records = 0
        self._without = 0
        self._busy: dict[str, int] = {}
        self._cpu = dict[str, float]()
        self._cpu_now = dict[str, float]()
        self._peak = dict[str, int]()
        self._finished: int | None = None
        self._measured = 0

    def outcome(self, entry: Entry) -> None:
        results, _, _, _, writer, owner, enqueued, done = entry.value
        self._records += 1
        self._first = min(self._first, enqueued)
        if not results:
            self._without += 1
        if done is None:
            return
        self._took.append(done - enqueued)
        self._last = max(self._last, done)
        if who := writer or owner:
            self._busy[who] = self._busy.get(who, 0) + 1

    def sample(self, entry: Entry) -> None:
        """CPU counters begin anew with each incarnation: what went backwards, began at 0."""
        value = entry.value
        for name, (rss_bytes, cpu_s, up) in value["nodes"].items():
            if not up:
                continue
            self._peak[name] = max(self._peak.get(name, 0), rss_bytes)
            if name in self._cpu_now:
                before = self._cpu_now[name]
                self._cpu[name] = self._cpu.get(name, 0.0) + (cpu_s - before if cpu_s >= before else cpu_s)
            self._cpu_now[name] = cpu_s
        if value["done"] is not None:
            finished = value["done"] + value["dead"]
            if self._finished is not None:
                self._measured += finished - self._finished
            self._finished = finished

    def measured(self) -> Measured:
        took = sorted(self._took)
        workers_s = sum(cpu_s for name, cpu_s in self._cpu.items() if name in self._workers)
        span_s = self._last - self._first
        return Measured(
            metrics=PerformanceMetrics(
                records_processed=len(took),
                processing_rate=len(took) / span_s if took and span_s > 0 else 0.0,
                average_latency=fmean(took) if took else 0.0,
                error_rate=self._without / self._records if self._records else 0.0,
                resource_efficiency=self._measured / workers_s if workers_s > 0 else 0.0,
            ),
            latency_s={
                name: took[min(len(took) - 1, int(share * len(took)))] for name, share in PERCENTILES.items() if took
            },
            cpu_s={name: round(cpu_s, 3) for name, cpu_s in self._cpu.items()},
            peak_rss_bytes=self._peak,
            busy=self._busy,
            measured=self._measured,
        )
