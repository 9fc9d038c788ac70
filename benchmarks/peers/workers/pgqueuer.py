"""`python -m benchmarks.peers.workers.pgqueuer DSN`: what `pgq run` does, with a factory of our own."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
import orjson
import pgqueuer
import uvloop
from pgqueuer.models import Context, Job

from benchmarks.peers.payload import RESULTS

BATCH = 500
CONCURRENT = 2 * BATCH
POOL = 10
INSERT = f"INSERT INTO {RESULTS} (record_id, data) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def handle(job: Job, context: Context) -> None:
    """Store the result row through the pool that all jobs share."""
    record = orjson.loads(job.payload)
    pool = context.resources["pool"]
    await pool.execute(INSERT, record["a"], orjson.dumps(record).decode())


def factory(dsn: str) -> Callable[[], AbstractAsyncContextManager[pgqueuer.PgQueuer]]:
    """A connection of its own for the queue manager, a pool for what the jobs do."""

    @asynccontextmanager
    async def manager() -> AsyncIterator[pgqueuer.PgQueuer]:
        name = {"application_name": f"peer {os.getpid()}"}
        connection = await asyncpg.connect(dsn, server_settings=name)
        async with asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL, server_settings=name) as pool:
            queue = pgqueuer.PgQueuer.from_asyncpg_connection(connection, resources={"pool": pool})
            queue.entrypoint("record", accepts_context=True)(handle)
            yield queue
        await connection.close()

    return manager


if __name__ == "__main__":
    uvloop.run(pgqueuer.run(factory(sys.argv[1]), batch_size=BATCH, max_concurrent_tasks=CONCURRENT))
