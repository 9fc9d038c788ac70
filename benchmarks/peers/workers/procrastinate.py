"""`python -m benchmarks.peers.workers.procrastinate DSN`: a worker with asynchronous jobs."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import orjson
import procrastinate
import psycopg
import psycopg_pool

from benchmarks.peers.payload import INSERT

TASK = "record"
CONCURRENCY = 3


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


async def work(dsn: str) -> None:
    """Until SIGTERM. One pool for the queue's statements and the jobs' rows: a connection per job and one more."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    size, name = CONCURRENCY + 1, {"application_name": f"peer {os.getpid()}"}
    pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Any]] = psycopg_pool.AsyncConnectionPool(
        dsn, min_size=size, max_size=size, kwargs=name, configure=_autocommit, open=False
    )
    async with pool, app.open_async(pool):

        async def handle(**record: Any) -> None:
            async with pool.connection() as connection:
                await connection.execute(INSERT, (record["a"], orjson.dumps(record).decode()))

        app.task(name=TASK)(handle)
        await app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="successful")


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
