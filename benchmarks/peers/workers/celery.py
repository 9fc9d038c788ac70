"""`python -m benchmarks.peers.workers.celery BROKER DSN`: a Celery worker whose tasks store one row each."""

from __future__ import annotations

import os
import sys
from typing import Any

import celery
import orjson
import psycopg
from celery.signals import worker_process_init

from benchmarks.peers.payload import INSERT

TASK = "record"
PREFETCH = 64


def app(broker: str) -> celery.Celery:
    """The configuration that producer and worker share."""
    made = celery.Celery("peers", broker=broker)
    made.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=PREFETCH,
        broker_connection_retry_on_startup=True,
    )
    return made


class Handler:
    """The task; a process has one connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def connect(self, **_: object) -> None:
        """Called when a process that runs tasks starts."""
        name = f"peer {os.getpid()}"
        self._connection = psycopg.connect(self._dsn, autocommit=True, application_name=name)

    def handle(self, record: dict[str, Any]) -> None:
        """Store the result row."""
        assert self._connection is not None
        self._connection.execute(INSERT, (record["a"], orjson.dumps(record).decode()))


def main(broker: str, dsn: str, *options: str) -> None:
    """Until SIGTERM."""
    made, handler = app(broker), Handler(dsn)
    worker_process_init.connect(handler.connect)
    made.task(name=TASK)(handler.handle)
    made.worker_main(["worker", "--loglevel=WARNING", *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
