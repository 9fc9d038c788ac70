"""rpa1 as a process, killed and stopped between survey_hub's commit and rpa_db's."""

from __future__ import annotations

import signal
from collections.abc import Callable

import orjson
import psycopg
import pytest

from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.migrate import migrate_package
from rpa_flows.generator import Row
from rpa_testkit.databases import Database
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

_N = 400
Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(database: Database, survey_hub: Database, worker_process: WorkerProcesses) -> Start:
    """Starts rpa1 over the two databases, with a lease of one second."""
    migrate_package(survey_hub.dsn, package="rpa_flows.migrations", namespace="rpa_flows")

    def start_rpa1(checkpoint: str | None = None) -> WorkerProcess:
        environ = {
            "CONTAINER_DATABASE_RPA_DB_URL": database.dsn,
            "CONTAINER_DATABASE_SURVEY_HUB_URL": survey_hub.dsn,
            "CONTAINER_FLOW_NAME": "rpa1",
            "CONTAINER_CODEBOOK": "anes96",
            "CONTAINER_HEALTH_PORT": "0",
            "CONTAINER_LEASE_TTL": "1",
        }
        return worker_process("rpa1", environ, checkpoint=checkpoint)

    return start_rpa1


def _load(dsn: str, rows: list[Row]) -> None:
    records = [NewRecord(orjson.dumps({**row, "respondent": f"r{n}"})) for n, row in enumerate(rows[:_N])]
    with connect(dsn) as connection, connection.transaction():
        enqueue(connection, "rpa1", records)


def _finish(database: Database, survey_hub: Database, worker: WorkerProcess) -> None:
    """Wait for the end, and for each response once: in survey_hub, as a result, and as a record of rpa2."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:

        def left() -> bool:
            query = "SELECT count(*) FROM rpa.chunk WHERE flow = rpa.flow_id('rpa1')"
            return connection.execute(query).fetchone() == (0,)

        until(left, 30, "rpa1 to finish", worker.log_text)
        assert connection.execute("SELECT count(*) FROM rpa.result").fetchone() == (_N,)
        assert connection.execute("SELECT count(*) FROM rpa.dead_letter").fetchone() == (0,)
        query = "SELECT count(*) FROM rpa.record WHERE flow = rpa.flow_id('rpa2')"
        assert connection.execute(query).fetchone() == (_N,)
    assert len(_responses(survey_hub)) == _N


def _responses(survey_hub: Database) -> dict[str, tuple[str, str]]:
    """Time and inserting transaction of each response, by key: they change if a row is written again."""
    with psycopg.connect(survey_hub.dsn) as connection:
        rows = connection.execute("SELECT key, received_at::text, xmin::text FROM public.responses").fetchall()
    found = {key: (at, xmin) for key, at, xmin in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.requirement("R8.2", "R3.3", "R3.1")
def test_a_kill_between_the_two_databases_doubles_nothing(
    database: Database, survey_hub: Database, start: Start, anes96_rows: list[Row]
) -> None:
    """survey_hub has the responses, rpa_db does not know: the next worker finds them and leaves them as they are."""
    _load(database.dsn, anes96_rows)
    killed = start("flow-effect-done:1:kill")
    killed.wait_reached(20)
    assert killed.wait(10) == -signal.SIGKILL
    before = _responses(survey_hub)
    assert len(before) == _N
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM rpa.result").fetchone() == (0,)
    _finish(database, survey_hub, start())
    assert _responses(survey_hub) == before


@pytest.mark.requirement("R8.2", "R3.3", "R5.4")
def test_a_zombie_between_the_two_databases_doubles_nothing(
    database: Database, survey_hub: Database, start: Start, anes96_rows: list[Row]
) -> None:
    """Stopped there past its lease, overtaken, continued: its outcomes are discarded, survey_hub stays as it is."""
    _load(database.dsn, anes96_rows)
    zombie = start("flow-effect-done:1:stop")
    zombie.wait_reached(20)
    zombie.wait_stopped(10)
    before = _responses(survey_hub)
    other = start()
    _finish(database, survey_hub, other)
    zombie.cont()
    zombie.wait_for_log("lease.lost", 20)
    zombie.terminate()
    assert zombie.wait(20) == 0
    _finish(database, survey_hub, other)
    assert _responses(survey_hub) == before
