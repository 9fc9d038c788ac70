"""SIGTERM to workers in the middle of their work: how soon readiness fails, and how soon they have ended.

Five work at a time and are told one after the other, at random moments. Readiness is asked over one connection that is
kept alive, again and again, so the figure contains up to one answer that still said yes.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Iterator
from functools import partial

from benchmarks import brief, figures, noop, surface
from benchmarks.bench import Bench, one
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.waits import pause
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

_TOGETHER = 5
_RECORDS = 100_000
_GRACE_S = 10
_SETTINGS = {
    "CONTAINER_CLAIM_RECORDS": "200",
    "CONTAINER_SHUTDOWN_TIMEOUT": str(_GRACE_S - 2),
    "CONTAINER_STOP_GRACE": str(_GRACE_S),
}
_CLAIMED = b'rpa_claims_total{flow="brief",result="claimed"}'
_PATIENCE_S = 60.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Fifty drains by default; the bars are on the longest."""
    number, rand, never = bench.size(50, 5), random.Random(50), threading.Event()
    not_ready_ms: list[float] = []
    ended_s: list[float] = []
    with bench.ledger() as dsn:
        while len(ended_s) < number:
            _load(dsn)
            with _working(bench, dsn) as workers:
                for worker, port in workers:
                    pause(never, rand.uniform(0, 0.2))
                    not_ready, ended = _drained(worker, port)
                    not_ready_ms.append(not_ready)
                    ended_s.append(ended)
            bench.say(f"{len(ended_s)} drained, not ready after {max(not_ready_ms):.1f} ms at most")
            _check_load(dsn)
    yield Figure(
        name="SIGTERM to readiness 503, the longest",
        value=max(not_ready_ms),
        unit="ms",
        bar=figures.at_most(100),
        samples=not_ready_ms,
        note=f"{number} drains under load, median {statistics.median(not_ready_ms):.1f} ms",
    )
    yield Figure(
        name="SIGTERM to exit 0, the longest",
        value=max(ended_s),
        unit="s",
        bar=figures.at_most(_GRACE_S),
        samples=ended_s,
        note=f"the bar is the grace; median {statistics.median(ended_s):.2f} s",
    )


@contextlib.contextmanager
def _working(bench: Bench, dsn: str) -> Iterator[list[tuple[WorkerProcess, int]]]:
    """Workers that have claimed, with the ports of their probes."""
    workers = [bench.start_worker(brief.SPEC, dsn, _SETTINGS) for _ in range(_TOGETHER)]
    try:
        ports = [surface.port(worker) for worker in workers]
        for worker, port in zip(workers, ports, strict=True):
            until(partial(_claimed, port), _PATIENCE_S, "it to work", worker.log_text)
        yield list(zip(workers, ports, strict=True))
    finally:
        for worker in workers:
            worker.reap()


def _drained(worker: WorkerProcess, port: int) -> tuple[float, float]:
    """Milliseconds until it was not ready, seconds until it had ended, since it was told."""
    asking = _Asking(port)
    told = time.monotonic()
    worker.terminate()
    failed = asking.failed_at()
    if (code := worker.wait(_PATIENCE_S)) != 0:
        raise RuntimeError(f"a worker ended with {code}:\n{worker.log_text()[-4000:]}")
    return (failed - told) * 1000, time.monotonic() - told


class _Asking:
    """A thread that asks for readiness until it fails."""

    def __init__(self, port: int) -> None:
        """Returns once the first answers have come."""
        self._failed_at: float | None = None
        self._answers = 0
        self._port = port
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self._answers > 3, _PATIENCE_S, "answers")

    def failed_at(self) -> float:
        """When readiness failed, on the monotonic clock."""
        self._thread.join(_PATIENCE_S)
        if self._failed_at is None:
            raise RuntimeError(f"the worker never said that it is not ready; {self._answers} answers")
        return self._failed_at

    def _run(self) -> None:
        with contextlib.closing(surface.connection(self._port)) as client:
            while self._failed_at is None:
                client.request("GET", "/health/ready")
                answer = client.getresponse()
                answer.read()
                self._answers += 1
                if answer.status == 503:
                    self._failed_at = time.monotonic()


def _claimed(port: int) -> bool:
    lines = surface.ask(port, "/metrics")[1].splitlines()
    return any(line.startswith(_CLAIMED) and float(line.rpartition(b" ")[2]) > 0 for line in lines)


def _load(dsn: str) -> None:
    """More than five workers get through before the last of them is told, however slowly they start."""
    with connect(dsn, application_name="benchmark") as connection, connection.transaction():
        waiting = one(connection, "SELECT coalesce(sum(n), 0)::bigint FROM rpa.chunk")[0]
        enqueue(connection, brief.FLOW.name, map(NewRecord, noop.payloads(_RECORDS - waiting)))


def _check_load(dsn: str) -> None:
    """Fails where a worker may have been idle when it was told."""
    with connect(dsn, application_name="benchmark") as connection:
        if not one(connection, "SELECT EXISTS (SELECT FROM rpa.chunk)")[0]:
            raise RuntimeError("the records are used up: the drains were not under load")
