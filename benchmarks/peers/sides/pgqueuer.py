"""pgqueuer: jobs in PostgreSQL, claimed and finished in batches, over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from benchmarks.bench import Bench, one
from benchmarks.peers import payload
from benchmarks.peers.side import Copies, Enqueue, Setting, System, copies

_ENTRYPOINT = "record"
_CHUNK = 5_000


class PgQueuerSide:
    """One queue manager a process."""

    name = "pgqueuer"
    records = 40_000
    results = payload.RESULTS
    gate = "pgqueuer"
    seen = payload.SEEN
    settings: Sequence[Setting] = (
        Setting(
            chosen="asyncpg under uvloop",
            why="measured there as 1.7 times psycopg; `pgq run` uses uvloop",
            page="comparisons/benchmarks, asyncpg vs psycopg",
        ),
        Setting(
            chosen="batch_size=500, max_concurrent_tasks=1000",
            why="short jobs want large batches, and the ceiling is at least two of them",
            page="guides/performance-tuning, batch size",
        ),
        Setting(
            chosen="one connection for the queue manager, a pool of 10 for the rows the jobs write",
            why="LISTEN wants a connection of its own; what is expensive is made once and shared",
            page="guides/performance-tuning, NOTIFY channel; guides/shared-resources",
        ),
        Setting(
            chosen="autovacuum and fillfactor 70 as by `pgq autovac`",
            why="the queue's table is rewritten all the time",
            page="guides/performance-tuning, autovacuum tuning",
        ),
        Setting(
            chosen="durability level durable (the default)",
            why="the levels above it are faster and lose jobs in a crash",
            page="guides/performance-tuning, durability vs. throughput",
        ),
    )

    def missing(self) -> str:
        """Of the packages."""
        return payload.absent("pgqueuer", "asyncpg", "uvloop")

    def version(self) -> str:
        """With its driver."""
        return payload.versions("pgqueuer", "asyncpg", "uvloop")

    @contextmanager
    def loaded(self, bench: Bench, records: int) -> Iterator[Copies]:
        """Enqueued by its own client, 5,000 jobs a call."""
        with bench.database() as template:
            asyncio.run(_load(template, records))
            yield copies(bench, template, lambda dsn: self._system(bench, dsn))

    def _system(self, bench: Bench, dsn: str) -> System:
        return System(
            dsn=dsn,
            start=lambda: bench.start(["-m", "benchmarks.peers.workers.pgqueuer", dsn]),
            drained=_drained,
            producer=lambda: _producer(dsn),
        )


async def _load(dsn: str, records: int) -> None:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(payload.SCHEMA)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        for first in range(0, records, _CHUNK):
            bodies = [orjson.dumps(payload.fields(n)) for n in range(first, min(first + _CHUNK, records))]
            await queries.enqueue([_ENTRYPOINT] * len(bodies), bodies, [0] * len(bodies))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _drained(connection: psycopg.Connection[Any]) -> bool:
    return not one(connection, "SELECT EXISTS (SELECT FROM pgqueuer)")[0]


@contextmanager
def _producer(dsn: str) -> Iterator[Enqueue]:
    from pgqueuer.db import SyncPsycopgDriver
    from pgqueuer.queries import SyncQueries

    with psycopg.connect(dsn, autocommit=True, application_name="benchmark in") as connection:
        queries = SyncQueries(SyncPsycopgDriver(connection))
        yield lambda number: queries.enqueue(_ENTRYPOINT, orjson.dumps(payload.fields(number)))
