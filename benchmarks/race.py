"""Timing workers against a queue: from a common start signal until the last result is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import psycopg

from benchmarks import figures, processor
from benchmarks.bench import Bench, one
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

_LONGEST_S = 900.0
_LOOK_S = 0.005


class Race(NamedTuple):
    """One run. The CPU times are per record: of the workers, and of their PostgreSQL sessions."""

    records_per_s: float
    worker_cpu_us: float
    server_cpu_us: float


def speed(name: str, races: Sequence[Race], note: str) -> Figure:
    """Records/s of one side's runs, with the CPU that a record took."""
    return figures.of(
        name,
        [run.records_per_s for run in races],
        "records/s",
        note=note,
        worker_cpu_us_per_record=[round(run.worker_cpu_us, 3) for run in races],
        server_cpu_us_per_record=[round(run.server_cpu_us, 3) for run in races],
    )


def engine(
    bench: Bench,
    template: str,
    flow: str,
    records: int,
    workers: int,
    *,
    spec: str | None = None,
    environ: Mapping[str, str] | None = None,
    settle: Callable[[], object] = lambda: None,
) -> Race:
    """Workers of `flow` on a copy of `template`, where the flow is paused: the start signal is its release.

    `settle` returns when what comes with the workers' start, besides their waiting for work, is over.
    """
    with (
        bench.database(template) as dsn,
        bench.workers(spec or flow, dsn, workers, environ) as processes,
        connect(dsn, application_name="benchmark") as connection,
    ):

        def release() -> None:
            with connection.transaction():
                connection.execute("UPDATE rpa.flow SET paused = false WHERE name = %s", (flow,))
                connection.execute("SELECT pg_notify('rpa.' || %s, '')", (flow,))

        (flow_id,) = one(connection, "SELECT id FROM rpa.flow WHERE name = %s", (flow,))
        unfinished = f"SELECT EXISTS (SELECT FROM rpa.chunk WHERE flow = {flow_id})"
        settle()
        race = _run(connection, release, processes, records, unfinished)
        (results,) = one(connection, "SELECT count(*) FROM rpa.result")
    return _checked(race, results, records)


def by_hand(bench: Bench, template: str, records: int, workers: int) -> Race:
    """The baseline's workers on a copy of `template`, let in by one advisory lock and out by another."""
    with bench.database(template) as dsn, connect(dsn, application_name="benchmark") as connection:
        connection.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")
        with _baseline_workers(bench, dsn, workers) as processes:

            def waiting() -> bool:
                (number,) = one(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                return bool(number == workers)

            until(waiting, 30.0, "the baseline's workers to wait", lambda: processes[0].log_text())
            race = _run(
                connection,
                lambda: connection.execute("SELECT pg_advisory_unlock(1)"),
                processes,
                records,
                "SELECT EXISTS (SELECT FROM baseline.chunk)",
            )
            connection.execute("SELECT pg_advisory_unlock(2)")
        (results,) = one(connection, "SELECT count(*) FROM baseline.result")
    return _checked(race, results, records)


@contextmanager
def _baseline_workers(bench: Bench, dsn: str, number: int) -> Iterator[list[WorkerProcess]]:
    processes = [bench.start(["-m", "benchmarks.baseline.worker", dsn]) for _ in range(number)]
    try:
        yield processes
        for process in processes:
            if process.wait(30.0) != 0:
                raise RuntimeError(process.log_text())
    finally:
        for process in processes:
            process.reap()


def _run(
    connection: psycopg.Connection[object],
    release: Callable[[], object],
    processes: Sequence[WorkerProcess],
    records: int,
    unfinished: str,
) -> Race:
    workers = _Cpu([process.pid for process in processes])
    server = _Cpu(processor.backends(connection))
    begun = time.perf_counter()
    release()

    def finished() -> bool:
        ended = [process for process in processes if process.returncode not in (None, 0)]
        if ended:
            raise RuntimeError(f"a worker ended:\n{ended[0].log_text()[-4000:]}")
        return not one(connection, unfinished)[0]

    until(finished, _LONGEST_S, "the queue to be empty", every_s=_LOOK_S)
    took_s = time.perf_counter() - begun
    return Race(
        records_per_s=records / took_s,
        worker_cpu_us=workers.spent_s() / records * 1e6,
        server_cpu_us=server.spent_s() / records * 1e6,
    )


@dataclass(slots=True)
class _Cpu:
    pids: list[int]
    before_s: float = 0.0

    def __post_init__(self) -> None:
        self.before_s = processor.cpu_s(self.pids)

    def spent_s(self) -> float:
        return processor.cpu_s(self.pids) - self.before_s


def _checked(race: Race, results: int, records: int) -> Race:
    if results != records:
        raise RuntimeError(f"{results} results for {records} records")
    return race
