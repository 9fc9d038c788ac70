"""One run of one side: both workers behind the gate, the gate opens, and the server's commit timestamps tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.bench import one
from benchmarks.peers.outcome import Found, Run
from benchmarks.peers.payload import WORKERS
from benchmarks.peers.side import Copies, Side, System
from rpa_core.store.connect import connect
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

START_S = 60.0
_LONGEST_S = 600.0
_LOOK_S = 0.25

_AT_GATE = (
    "SELECT count(DISTINCT application_name) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_FOUND = """
SELECT count(*), count(DISTINCT number), min(number), max(number)
FROM (SELECT (data->>'a')::bigint AS number FROM {results}) found
"""
_LAST = "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 FROM {results}"
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Workers at work: a connection to their database, and when the gate opened, by the server's clock."""

    connection: psycopg.Connection[Any]
    opened_s: float
    check: Callable[[], None]
    """Raises RuntimeError with its log if a worker has ended."""


@contextmanager
def working(side: Side, system: System) -> Iterator[Started]:
    """Both workers at work: each has come to the gate, then it was opened. At the end they are stopped."""
    processes: list[WorkerProcess] = []
    with (
        connect(system.dsn, application_name="benchmark") as connection,
        connect(system.dsn, application_name="benchmark gate") as gate,
    ):

        def logs() -> str:
            return "\n".join(process.log_text()[-4000:] for process in processes)

        def check() -> None:
            if any(not process.running for process in processes):
                raise RuntimeError(f"a worker of {side.name} ended:\n{logs()}")

        def together() -> bool:
            check()
            return bool(one(connection, _AT_GATE)[0] >= WORKERS)

        try:
            with gate.transaction():
                gate.execute(f"LOCK TABLE {side.gate} IN SHARE MODE".encode())
                processes += [system.start() for _ in range(WORKERS)]
                until(together, START_S, f"{WORKERS} workers of {side.name} at the gate", logs)
                (opened_s,) = one(connection, _NOW)
            yield Started(connection=connection, opened_s=opened_s, check=check)
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(START_S)
        finally:
            for process in processes:
                process.reap()


def race(side: Side, copies: Copies, records: int) -> Run:
    """Work through one copy of what was loaded: from the opening of the gate to the last result row's commit."""
    with copies() as system, working(side, system) as started:
        drain(side, system, started, _LONGEST_S)
        (last_s,) = _ask(started, _LAST, side)
        rows, distinct, lowest, highest = _ask(started, _FOUND, side)
    found = Found(rows=rows, distinct=distinct, lowest=lowest, highest=highest)
    took_s = (last_s or 0.0) - started.opened_s
    return Run(records_per_s=records / took_s, took_s=took_s, wrong=found.wrong(records))


def _ask(started: Started, query: str, side: Side) -> tuple[Any, ...]:
    return one(started.connection, query.format(results=side.results))


def drain(side: Side, system: System, started: Started, timeout_s: float) -> None:
    """Wait until every record is done; RuntimeError if a worker ends before."""

    def done() -> bool:
        started.check()
        return system.drained(started.connection)

    until(done, timeout_s, f"{side.name} to be done", every_s=_LOOK_S)
