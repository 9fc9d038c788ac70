"""Resident memory of one worker: after 10,000 records, and after 1,000,000."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures, noop, processor
from benchmarks.bench import Bench, one
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.waits import until

_MB = 1_000_000
_PART = 100_000


def measure(bench: Bench) -> Iterator[Figure]:
    """VmRSS of the same process, idle after the first part and after the last."""
    first, total = bench.size(10_000, 1_000), bench.size(1_000_000, 5_000)
    with bench.ledger() as dsn:
        noop.load(dsn, 0, paused=False)
        with bench.workers(noop.SPEC, dsn, 1) as (worker,):
            started = processor.rss_bytes(worker.pid)
            _process(dsn, first)
            early = processor.rss_bytes(worker.pid)
            for begin in range(first, total, _PART):
                _process(dsn, min(_PART, total - begin))
            late = processor.rss_bytes(worker.pid)
    note = f"VmRSS after {total:,} no-op records; {started / _MB:.1f} MB when started"
    yield Figure(name="worker memory", value=late / _MB, unit="MB", bar=figures.at_most(90), note=note)
    yield Figure(
        name="worker memory growth",
        value=(late - early) / _MB,
        unit="MB",
        bar=figures.at_most(5),
        note=f"between {first:,} and {total:,} records, same process",
    )


def _process(dsn: str, records: int) -> None:
    with connect(dsn, application_name="benchmark") as connection:
        with connection.transaction():
            enqueue(connection, "noop", (NewRecord(payload) for payload in noop.payloads(records)))
        until(
            lambda: not one(connection, "SELECT EXISTS (SELECT FROM rpa.chunk)")[0],
            300.0,
            "the queue to be empty",
            every_s=0.05,
        )
