"""What a worker tells, as metrics and as the heartbeat of liveness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rpa_core.observability.metrics import Metrics
from rpa_core.processing.events import WorkerEvents


class Telemetry(WorkerEvents):
    """Binds the label values once: the calls on the hot path are one per claim or chunk, not one per record."""

    def __init__(self, metrics: Metrics, flow: str, heartbeat: Callable[[], None]) -> None:
        self._metrics = metrics
        self.beat = heartbeat  # type: ignore[method-assign]  # called per record: no frame in between
        self._state = ""
        self._done = metrics.records.labels(flow=flow, outcome="done")
        self._retried = metrics.records.labels(flow=flow, outcome="retried")
        self._dead = metrics.records.labels(flow=flow, outcome="set_aside")
        self._lost = metrics.records.labels(flow=flow, outcome="lost")
        self._leases_lost = metrics.leases_lost.labels(flow=flow)
        self._claimed = metrics.claims.labels(flow=flow, result="claimed")
        self._empty = metrics.claims.labels(flow=flow, result="empty")
        self._claim_records = metrics.claim_records.labels(flow=flow)
        self._duration = metrics.record_duration.labels(flow=flow)
        self._commit = metrics.commit_duration.labels(flow=flow)
        self._success = metrics.last_success.labels(flow=flow)

    def state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._metrics.set_worker_state(state)

    def claimed(self, records: int) -> None:
        if records:
            self._claimed.inc()
            self._claim_records.observe(records)
        else:
            self._empty.inc()

    def handled(self, records: int, seconds: float) -> None:
        if records:
            self._duration.observe(seconds / records)

    def completed(self, *, done: int, moved: int, dead: int) -> None:
        self._done.inc(done)
        self._retried.inc(moved)
        self._dead.inc(dead)
        self._success.set(time.time())

    def lost(self, records: int) -> None:
        self._lost.inc(records)
        self._leases_lost.inc()

    @contextmanager
    def committing(self) -> Iterator[None]:
        with self._commit.time():
            yield
