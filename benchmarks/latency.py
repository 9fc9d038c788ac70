"""One record at a time into an idle system, from before its enqueue until another session sees its result.

Measured on the wall clock of this process, which enqueues on one connection and, once the commit has returned, asks on
a second one again and again (a prepared look-up, a fraction of a millisecond each). So a sample contains the enqueue
with its commit, the wake-up, claim, handling and completion, and up to one look-up too much. Between samples the system
is idle for a random time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import psycopg

from benchmarks import figures, noop
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.waits import pause

_SEEN = b"""
SELECT 1 FROM rpa.record r JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id
WHERE r.flow = (SELECT id FROM rpa.flow WHERE name = 'noop') AND r.key = %s
"""
_LONGEST_S = 30.0


def measure(bench: Bench) -> Iterator[Figure]:
    """p50 and p99 over 300 records, one worker with default settings."""
    with bench.ledger() as dsn:
        noop.load(dsn, 1, paused=False)
        with bench.workers(noop.SPEC, dsn, 1):
            samples_ms = _samples_ms(dsn, bench.size(300, 10))
    note = f"{len(samples_ms)} records, enqueue to a result that another session sees"
    details = {"max_ms": max(samples_ms), "p90_ms": figures.percentile(samples_ms, 0.9)}
    for name, share, limit_ms in (("p50", 0.5, 5), ("p99", 0.99, 15)):
        yield Figure(
            name=f"latency {name}",
            value=figures.percentile(samples_ms, share),
            unit="ms",
            bar=figures.at_most(limit_ms),
            samples=samples_ms,
            note=note,
            details=details,
        )


def _samples_ms(dsn: str, number: int) -> list[float]:
    rand, never, samples = random.Random(1), threading.Event(), []
    with connect(dsn, application_name="benchmark in") as into, psycopg.connect(dsn, autocommit=True) as out:
        for serial in range(number):
            pause(never, rand.uniform(0.02, 0.1))
            key = f"latency-{serial}"
            begun = time.perf_counter()
            with into.transaction():
                enqueue(into, "noop", [NewRecord(b'{"a":1}', key)])
            while not out.execute(_SEEN, (key,), prepare=True).fetchone():
                if time.perf_counter() - begun > _LONGEST_S:
                    raise TimeoutError(f"no result for {key} after {_LONGEST_S:g} s")
            samples.append((time.perf_counter() - begun) * 1000)
    return samples
