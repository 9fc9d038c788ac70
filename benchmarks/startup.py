"""From the start of a worker's process to its first claim, with a record waiting."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures, hold
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_core.store.connect import connect

_TTL_S = 10.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Seconds by the database's clock, from just before the process is made to the claim's own time."""
    yield figures.of(
        "worker start to first claim",
        [_start_s(bench) for _ in range(2 * bench.runs)],
        "s",
        figures.at_most(1.0),
        note="`rpa run`, compiled modules cached, probes and checks included",
    )


def _start_s(bench: Bench) -> float:
    with bench.ledger() as dsn, connect(dsn, application_name="benchmark") as connection:
        hold.enqueue_one(connection)
        begun_s = hold.now_s(connection)
        worker = bench.start_worker(hold.SPEC, dsn)
        try:
            lease = hold.wait_for_lease(connection, ttl_s=_TTL_S, epoch=1, timeout_s=30)
        finally:
            worker.reap()
        return lease.claimed_s - begun_s
