"""`python -m benchmarks.peers.workers.procrastinate DSN`: a worker with asynchronous jobs."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import orjson
import procrastinate
import psycopg_pool

from benchmarks.peers.payload import INSERT

TASK = "record"
CONCURRENCY = int(os.environ.get("C", 20))


def app(dsn: str) -> procrastinate.App:
    """With a pool for every job at once and one more."""
    name = f"peer {os.getpid()}"
    size = CONCURRENCY + 1
    connector = procrastinate.PsycopgConnector(
        conninfo=dsn, kwargs={"application_name": name}, min_size=size, max_size=size
    )
    return procrastinate.App(connector=connector)


async def work(dsn: str) -> None:
    """Until SIGTERM."""
    made = app(dsn)
    kwargs = {"autocommit": True, "application_name": f"peer {os.getpid()}"}
    async with (
        psycopg_pool.AsyncConnectionPool(dsn, min_size=CONCURRENCY, max_size=CONCURRENCY, kwargs=kwargs) as pool,
        psycopg_pool.AsyncConnectionPool(dsn, min_size=CONCURRENCY + 1 if os.environ.get("O") else 0, max_size=CONCURRENCY + 1, kwargs={"application_name": f"peer {os.getpid()}"} | ({"autocommit": True} if os.environ.get("O")=="2" else {})) as own,
        made.open_async(own if os.environ.get("O") else None),
    ):

        async def handle(**record: Any) -> None:
            async with pool.connection() as connection:
                await connection.execute(INSERT, (record["a"], orjson.dumps(record).decode()))

        made.task(name=TASK)(handle)
        await made.run_worker_async(concurrency=CONCURRENCY, delete_jobs=os.environ.get("D","successful"))


if __name__ == "__main__":
    if os.environ.get("U"):
        import uvloop
        uvloop.run(work(sys.argv[1]))
    asyncio.run(work(sys.argv[1]))
