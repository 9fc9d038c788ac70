"""procrastinate: jobs in PostgreSQL, fetched and finished one by one, many at once in a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.bench import Bench, one
from benchmarks.peers import payload
from benchmarks.peers.side import Copies, Enqueue, Setting, System, copies

_TASK = "record"
_CHUNK = 5_000


class ProcrastinateSide:
    """Asynchronous jobs on psycopg."""

    name = "procrastinate"
    records = 10_000
    results = payload.RESULTS
    gate = "procrastinate_jobs"
    seen = payload.SEEN
    settings: Sequence[Setting] = (
        Setting(
            chosen="asynchronous jobs on psycopg, concurrency=3",
            why="while one job waits for the server others run; 5, 10, 20 and 30 were slower on two cores",
            page="howto/production/concurrency",
        ),
        Setting(
            chosen="a pool of 4, for the queue's statements and the jobs' rows",
            why="short jobs want as many connections as the concurrency, plus one",
            page="discussions, mind the size of your PostgreSQL pool",
        ),
        Setting(
            chosen="the pool is our own, in autocommit, without a check at every checkout",
            why="saves BEGIN, COMMIT and a probe around every statement, each of which is one call of a function",
            page="reference, App.open_async(pool)",
        ),
        Setting(
            chosen='delete_jobs="successful"',
            why="the queue stays small",
            page="howto/production/delete_finished_jobs",
        ),
        Setting(
            chosen="deferred by batch_defer, 5,000 a call",
            why="more efficient than one by one; not part of the measured time",
            page="howto/basics/batch_defer",
        ),
    )

    def missing(self) -> str:
        """Of the packages."""
        return payload.absent("procrastinate")

    def version(self) -> str:
        """With its driver."""
        return payload.versions("procrastinate", "psycopg")

    @contextmanager
    def loaded(self, bench: Bench, records: int) -> Iterator[Copies]:
        """Deferred by its own client, 5,000 jobs a call."""
        with bench.database() as template:
            _load(template, records)
            yield copies(bench, template, lambda dsn: self._system(bench, dsn))

    def _system(self, bench: Bench, dsn: str) -> System:
        return System(
            dsn=dsn,
            start=lambda: bench.start(["-m", "benchmarks.peers.workers.procrastinate", dsn]),
            drained=_drained,
            producer=lambda: _producer(dsn),
        )


@contextmanager
def _deferrer(dsn: str) -> Iterator[Any]:
    import procrastinate

    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn, min_size=1, max_size=1))
    with app.open():
        yield app


def _load(dsn: str, records: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection, _deferrer(dsn) as app:
        connection.execute(payload.SCHEMA.encode())
        app.schema_manager.apply_schema()
        for first in range(0, records, _CHUNK):
            jobs = [payload.fields(number) for number in range(first, min(first + _CHUNK, records))]
            app.configure_task(_TASK).batch_defer(*jobs)
        connection.execute("ANALYZE")


def _drained(connection: psycopg.Connection[Any]) -> bool:
    return not one(connection, "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))")[0]


@contextmanager
def _producer(dsn: str) -> Iterator[Enqueue]:
    with _deferrer(dsn) as app:
        task = app.configure_task(_TASK)
        yield lambda number: task.defer(**payload.fields(number))
