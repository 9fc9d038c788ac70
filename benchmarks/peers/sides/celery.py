"""celery: messages in Redis, acknowledged when the row is in PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.peers import payload, redis
from benchmarks.peers.side import Copies, Enqueue, Setting, System

_TASK = "record"
_QUEUE = "celery"
_UNACKED = "unacked"


class CelerySide:
    """With Redis as its broker, where a redis-server is installed."""

    name = "celery"
    records = 10_000
    results = payload.RESULTS
    gate = payload.RESULTS
    seen = payload.SEEN
    settings: Sequence[Setting] = (
        Setting(
            chosen="Redis with appendonly and appendfsync always",
            why="a message is on disk when it is accepted, as a row of PostgreSQL is",
            page="userguide/optimizing, using transient queues: what is given up there is kept; Redis, persistence",
        ),
        Setting(
            chosen="task_acks_late and task_reject_on_worker_lost",
            why="a record survives the worker that holds it, as on every other side",
            page="userguide/configuration, task_acks_late",
        ),
        Setting(
            chosen="2 worker instances with the solo pool",
            why="tasks run where they are fetched: less CPU a record than prefork with 1, 2, 4 or 8 processes each",
            page="userguide/concurrency, overview of concurrency options; userguide/workers, starting the worker",
        ),
        Setting(
            chosen="worker_prefetch_multiplier=64",
            why="many short tasks want a large one, say 64 or 128",
            page="userguide/optimizing, prefetch limits",
        ),
        Setting(
            chosen="task_ignore_result",
            why="the result is the row in PostgreSQL, a second one would waste time",
            page="userguide/tasks, ignore results you don't want",
        ),
        Setting(
            chosen="a connection to PostgreSQL for each process, made when it starts",
            why="one connection per task would be the larger part of the work",
            page="userguide/signals, worker_process_init",
        ),
    )

    def missing(self) -> str:
        """Of the packages, and the server."""
        if gone := payload.absent("celery", "redis"):
            return gone
        return "" if shutil.which(redis.PROGRAM) else f"no {redis.PROGRAM} on the PATH: install Redis"

    def version(self) -> str:
        """With its broker and its client."""
        return f"{payload.versions('celery', 'kombu', 'redis', 'psycopg')}, {redis.version()}"

    @contextmanager
    def loaded(self, bench: Bench, records: int) -> Iterator[Copies]:
        """Sent by its own client, on one connection."""
        folder = bench.folder / f"redis-{next(_NUMBERS)}"
        with bench.database() as template:
            with psycopg.connect(template) as connection:
                connection.execute(payload.SCHEMA.encode())
            with redis.server(folder, fsync="no") as port, _sender(port) as send:
                for number in range(records):
                    send(number)
            yield lambda: _copy(bench, template, folder)


_NUMBERS = count(1)


@contextmanager
def _copy(bench: Bench, template: str, folder: Path) -> Iterator[System]:
    copied = bench.folder / f"redis-{next(_NUMBERS)}"
    with bench.database(template) as dsn, redis.server(copied, fsync="always", template=folder) as port:
        broker = redis.client(port)
        worker = ["-m", "benchmarks.peers.workers.celery", _url(port), dsn, "--pool=solo"]

        def drained(_: psycopg.Connection[Any]) -> bool:
            return not broker.llen(_QUEUE) and not broker.hlen(_UNACKED)

        numbers = count(1)
        with broker:
            yield System(
                dsn=dsn,
                start=lambda: bench.start([*worker, f"--hostname=peer{next(numbers)}@%h"]),
                drained=drained,
                producer=lambda: _sender(port),
            )


@contextmanager
def _sender(port: int) -> Iterator[Enqueue]:
    from benchmarks.peers.workers.celery import app

    made = app(_url(port))
    with made.connection_for_write() as connection, made.amqp.Producer(connection) as producer:
        yield lambda number: made.send_task(_TASK, (payload.fields(number),), producer=producer)


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"
