"""What a worker tells, as metrics and as the heartbeat of liveness."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rpa_core.observability.metrics import Metrics
from rpa_core.prefect.model import Counts
from rpa_core.processing.events import WorkerEvents


class Telemetry(WorkerEvents):
    """Binds the label values once: the calls on the hot path are one per claim or chunk, not one per record.

    `counts` is what became of records so far, for whoever reports it.
    """

    def __init__(self, metrics: Metrics, flow: str, heartbeat: Callable[[], None]) -> None:
        self._metrics = metrics
        self._flow = flow
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
        self.counts = Counts()
        self._counting = threading.Lock()  # a chunk at a time: the worker's, and what earlier lives finished

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
        self._count(done=done, retried=moved, set_aside=dead)

    def handed_on_known(self, to: str, records: int) -> None:
        self._metrics.handed_on_known.labels(flow=self._flow, to=to).inc(records)

    def lost(self, records: int) -> None:
        self._lost.inc(records)
        self._leases_lost.inc()
        self._count(lost=records)

    @contextmanager
    def committing(self) -> Iterator[None]:
        with self._commit.time():
            yield

    def _count(self, *, done: int = 0, retried: int = 0, set_aside: int = 0, lost: int = 0) -> None:
        with self._counting:
            now = self.counts
            self.counts = Counts(now.done + done, now.retried + retried, now.set_aside + set_aside, now.lost + lost)
