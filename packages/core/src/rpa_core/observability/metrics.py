"""The named instruments, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from rpa_core.version import VERSION

WORKER_STATES = ("starting", "waiting", "running", "paused", "draining", "stopped")
RETENTION_REASONS = ("rights", "error", "dead_letters", "unfinished")
_DURATIONS = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
_COUNTS = (1, 2, 5, 10, 50, 100, 500, 1000, 2000, 5000, 10_000)


class Metrics:
    """Every instrument of one container; counters are incremented by whoever holds this object.

    Names, labels and units are the interface: `docs` and dashboards are written against them.
    """

    def __init__(self, *, flow: str | None = None) -> None:
        # Process-wide in the library, which left it without annotations; the `_created` series only cost space.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        self.records = self._counter("rpa_records", "Records by what became of them", "flow", "outcome")
        self.record_duration = self._histogram(
            "rpa_record_duration_seconds", "Handler time of one record", _DURATIONS, "flow"
        )
        self.claims = self._counter("rpa_claims", "Claims by result", "flow", "result")
        self.claim_records = self._histogram("rpa_claim_records", "Records in one claim", _COUNTS, "flow")
        self.commit_duration = self._histogram(
            "rpa_commit_duration_seconds", "Time of one completing transaction", _DURATIONS, "flow"
        )
        self.leases_lost = self._counter("rpa_leases_lost", "Chunks another worker took over", "flow")
        self.handed_on_known = self._counter(
            "rpa_handed_on_known", "Records not handed on because the flow they go to has their key", "flow", "to"
        )
        self.queue_records = self._gauge("rpa_queue_records", "Records in the queue by state", "flow", "state")
        self.queue_oldest_age = self._gauge(
            "rpa_queue_oldest_age_seconds", "Age of the oldest record not finished", "flow"
        )
        self.intake_records = self._counter("rpa_intake_records", "Records taken in by result", "flow", "result")
        self.dependency_up = self._gauge("rpa_dependency_up", "1 while the dependency answers", "dependency")
        self.breaker_state = self._gauge(
            "rpa_breaker_state", "0 while calls go through, 1 during a look, 2 while they are refused", "dependency"
        )
        self.recovery_actions = self._counter(
            "rpa_recovery_actions", "What was done about a service in trouble", "service", "remedy"
        )
        self.last_success = self._gauge(
            "rpa_last_success_timestamp_seconds", "When a record was last committed, Unix time", "flow"
        )
        self.retention_last_success = self._gauge(
            "rpa_retention_last_success_timestamp_seconds", "When this worker last applied the retention, Unix time"
        )
        self.retention_blocked = self._gauge(
            "rpa_retention_blocked",
            "1 where this worker cannot apply the retention (rights, error); periods past it that are kept for dead "
            "letters or unfinished records",
            "reason",
        )
        self.worker_state = self._gauge("rpa_worker_state", "1 for the state the worker is in", "state")
        self.log_dropped = self._gauge("rpa_log_records_dropped", "Log records dropped while stdout was blocked")
        self.spool_entries = self._gauge("rpa_spool_entries", "Entries that wait in the spool", "kind")
        self.spool_bytes = self._gauge("rpa_spool_bytes", "Bytes that wait in the spool", "kind")
        self.spool_oldest = self._gauge("rpa_spool_oldest_seconds", "Age of the oldest entry that waits", "kind")
        self.spool_dropped = self._counter("rpa_spool_dropped", "Entries dropped for lack of room or for age", "kind")
        self.spool_dead = self._gauge("rpa_spool_dead", "Dead letters in the spool", "kind")
        self.prefect_requests = self._counter("rpa_prefect_requests", "Requests to Prefect by result", "result")
        self.disk_free_bytes = self._gauge("rpa_disk_free_bytes", "Bytes that may still be written", "path")
        self.disk_free_ratio = self._gauge("rpa_disk_free_ratio", "Free share of the file system, 0 to 1", "path")
        self.disk_cleaned = self._counter("rpa_disk_cleaned_bytes", "Bytes of own old files deleted for room")
        self.build_info = self._gauge("rpa_build_info", "Always 1; the version is the label", "version")
        self.build_info.labels(version=VERSION).set(1)
        ProcessCollector(namespace="rpa", registry=self.registry)
        self.set_worker_state("starting")
        if flow is not None:
            self.announce(flow)

    def announce(self, flow: str) -> None:
        """Create the flow's series at zero, so that a rate exists before the first event."""
        for outcome in ("done", "retried", "set_aside", "lost"):
            self.records.labels(flow=flow, outcome=outcome)
        for result in ("claimed", "empty"):
            self.claims.labels(flow=flow, result=result)
        for result in ("accepted", "duplicate", "rejected"):
            self.intake_records.labels(flow=flow, result=result)
        self.leases_lost.labels(flow=flow)

    def set_worker_state(self, state: str) -> None:
        """Exactly one state is 1."""
        if state not in WORKER_STATES:
            raise ValueError(f"unknown worker state {state!r}; one of {', '.join(WORKER_STATES)}")
        for each in WORKER_STATES:
            self.worker_state.labels(state=each).set(1 if each == state else 0)

    def _counter(self, name: str, doc: str, *labels: str) -> Counter:
        return Counter(name, doc, labels, registry=self.registry)

    def _gauge(self, name: str, doc: str, *labels: str) -> Gauge:
        return Gauge(name, doc, labels, registry=self.registry)

    def _histogram(self, name: str, doc: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, doc, labels, registry=self.registry, buckets=tuple(buckets))
