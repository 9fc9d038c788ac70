"""A worker is killed while it holds a lease: when does another one claim what it held?

The kill comes as soon as the claim is seen, when the lease has longest to run. Both times are the database's.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures, hold
from benchmarks.bench import Bench, wait_for_workers
from benchmarks.figures import Figure
from rpa_core.store.connect import connect


def measure(bench: Bench) -> Iterator[Figure]:
    """Seconds from SIGKILL to the other worker's claim, lease TTL as by default."""
    ttl_s = bench.size(10, 1)
    samples = []
    for _ in range(bench.runs):
        samples.append(_takeover_s(bench, ttl_s))
        bench.say(f"takeover {samples[-1]:.2f} s")
    yield figures.of(
        "takeover after SIGKILL", samples, "s", figures.at_most(ttl_s + 1), note=f"lease TTL {ttl_s} s, killed at once"
    )


def _takeover_s(bench: Bench, ttl_s: int) -> float:
    environ = {"CONTAINER_LEASE_TTL": str(ttl_s)}
    with bench.ledger() as dsn, connect(dsn, application_name="benchmark") as connection:
        workers = {
            name: bench.start_worker(hold.SPEC, dsn, environ | {"CONTAINER_WORKER_ID": name}) for name in ("one", "two")
        }
        try:
            wait_for_workers(dsn, list(workers.values()))
            hold.enqueue_one(connection)
            first = hold.wait_for_lease(connection, ttl_s=ttl_s, epoch=1, timeout_s=10)
            killed_s = hold.now_s(connection)
            workers[first.owner.partition(":")[0]].kill()
            second = hold.wait_for_lease(connection, ttl_s=ttl_s, epoch=2, timeout_s=ttl_s + 30)
            return second.claimed_s - killed_s
        finally:
            for worker in workers.values():
                worker.reap()
