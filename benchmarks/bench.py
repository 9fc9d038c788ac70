"""What every measurement works with: a server, databases that are thrown away, and worker processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rpa_core.store.connect import connect
from rpa_core.store.migrate import migrate
from rpa_testkit.interrupts import uninterrupted
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 30.0


@dataclass(slots=True, kw_only=True)
class Bench:
    """`size(full, quick)` picks a size; `runs` is how often each side of a comparison runs."""

    server: EmbeddedPostgres
    folder: Path
    runs: int
    quick: bool
    say: Callable[[str], object]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def size(self, full: int, quick: int) -> int:
        """How many records, samples or processes to take."""
        return quick if self.quick else full

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """A database that is dropped at the end, as its DSN; empty, or a copy of the database with DSN `template`.

        A checkpoint comes first: every copy starts at the same distance from the next one.
        """
        name = f"bench_{next(self._numbers)}"
        source = psycopg.conninfo.conninfo_to_dict(template)["dbname"] if template else "template0"
        with connect(self.server.dsn()) as admin:
            admin.execute("CHECKPOINT")
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(str(source)))
            )
        try:
            yield self.server.dsn(name)
        finally:
            with connect(self.server.dsn()) as admin:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def ledger(self) -> Iterator[str]:
        """A database with the schema of rpa_core."""
        with self.database() as dsn:
            migrate(dsn)
            yield dsn

    def start(self, command: list[str], environ: Mapping[str, str] | None = None) -> WorkerProcess:
        """Start `python *command`; the caller reaps it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONTAINER_")}
        return WorkerProcess(
            [sys.executable, *command],
            env=inherited | {"PYTHONPATH": str(_ROOT)} | dict(environ or {}),
            log=self.folder / f"process-{next(self._numbers)}.log",
        )

    def start_worker(self, flow_spec: str, dsn: str, environ: Mapping[str, str] | None = None) -> WorkerProcess:
        """Start `rpa run FLOW_SPEC` on the database, with default settings but for `environ`."""
        settings = {"CONTAINER_DATABASE_RPA_DB_URL": dsn, "CONTAINER_HEALTH_PORT": "0"}
        return self.start(["-m", "rpa_core.cli.main", "run", flow_spec], settings | dict(environ or {}))

    @contextmanager
    def workers(
        self, flow_spec: str, dsn: str, number: int, environ: Mapping[str, str] | None = None
    ) -> Iterator[list[WorkerProcess]]:
        """`number` workers that are connected, listening and waiting; at the end they must drain with exit code 0."""
        processes: list[WorkerProcess] = []
        try:
            with uninterrupted():
                processes += [self.start_worker(flow_spec, dsn, environ) for _ in range(number)]
            wait_for_workers(dsn, processes)
            yield processes
            for process in processes:
                process.terminate()
            for process in processes:
                if (code := process.wait(30.0)) != 0:
                    raise RuntimeError(f"a worker ended with {code}:\n{process.log_text()[-4000:]}")
        finally:
            for process in processes:
                process.reap()


def wait_for_workers(dsn: str, processes: list[WorkerProcess]) -> None:
    """Until each has asked for work once and listens."""

    def logs() -> str:
        return "\n".join(process.log_text()[-2000:] for process in processes)

    with connect(dsn, application_name="benchmark") as connection:

        def up() -> bool:
            if any(not process.running for process in processes):
                raise RuntimeError(f"a worker ended:\n{logs()}")
            watching, claiming = one(
                connection,
                "SELECT count(*) FILTER (WHERE application_name LIKE 'rpa %% watcher'),"
                " count(*) FILTER (WHERE application_name ~ '^rpa [^ ]+ [^ ]+:') FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle'",
            )
            return bool(watching >= len(processes) and claiming >= len(processes))

        until(up, _START_S, f"{len(processes)} workers to wait for work", logs)


def one(connection: psycopg.Connection[Any], statement: str, parameters: Any = None) -> tuple[Any, ...]:
    """The one row of a query."""
    row = connection.execute(statement.encode(), parameters if parameters is not None else ()).fetchone()
    assert row is not None
    return tuple(row)
