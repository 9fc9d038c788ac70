"""The first upgrade of a live database: from the schema of 0001, with old workers and clients beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rpa_core.errors import StoreUnavailable
from rpa_core.store import lookup, migrations
from rpa_core.store.connect import connect
from rpa_core.store.ledger import Ledger
from rpa_core.store.migrate import migrate, migrate_package, status
from rpa_testkit.databases import Database, Databases
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from .engine import FLOWS, Engine
from .ledger_steps import end, one, take

_ROWS = """
SELECT rpa.enqueue('act', array_agg('k' || g), array_agg('{"n": 1}'::text)) FROM generate_series(1, 5) g;
INSERT INTO rpa.request (flow, key, digest, accepted, duplicates) VALUES (1, 'r', '', 5, 0);
INSERT INTO rpa.result (record_id, chunk_id, period, data)
SELECT min(id), 1, period, '1' FROM rpa.record GROUP BY period;
INSERT INTO rpa.dead_letter (record_id, period, flow, kind, tries, reasons)
SELECT max(id), period, flow, 'rejected', 1, ARRAY['no'] FROM rpa.record GROUP BY period, flow;
DELETE FROM rpa.chunk;
INSERT INTO rpa.chunk (flow, period, lo, hi, n) SELECT 1, 1, min(id) + 1, max(id) - 1, 3 FROM rpa.record;
INSERT INTO rpa.chunk_done (id, period, flow, n, n_ok, n_moved, n_dead, epoch, lease_id, attempts, owner, created_at)
SELECT 1, 1, 1, 5, 1, 3, 1, 1, gen_random_uuid(), 1, 'old', now();
"""


@pytest.fixture
def old(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database as the first version made it."""
    package = tmp_path / "migrations_0001"
    package.mkdir()
    first = Path(migrations.__path__[0]) / "0001_ledger.sql"
    (package / first.name).write_bytes(first.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    with databases.empty() as made:
        assert migrate_package(made.dsn, package=package.name, namespace="rpa_core") == ["0001_ledger"]
        with connect(made.dsn) as connection:
            connection.execute("ALTER TABLE rpa.migration DROP COLUMN compatible_from")
        yield made


def _contents(connection: psycopg.Connection[Any]) -> list[list[dict[str, Any]]]:
    tables = ("flow", "period", "record", "result", "chunk_done", "request")
    return [
        [row for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM rpa.{table} t ORDER BY t::text".encode())]
        for table in tables
    ]


@pytest.mark.requirement("R8.2", "D4")
def test_rows_of_every_table_come_through(old: Database) -> None:
    """Queued, done, set aside, remembered: each is as it was, and can be worked on, shown and discarded."""
    with connect(old.dsn) as connection:
        connection.execute(_ROWS)
        before = _contents(connection)
    assert migrate(old.dsn) == [one.label for one in status(old.dsn)][1:]
    with connect(old.dsn) as connection:
        after = _contents(connection)
        assert [
            [row | old_row for row, old_row in zip(*rows, strict=True)] for rows in zip(after, before, strict=True)
        ] == after
        found = [lookup.record_status(connection, "act", f"k{n}") for n in range(1, 6)]
        assert [status.state for status in found if status] == ["done", "ready", "ready", "ready", "set_aside"]
        ledger = Ledger(connection, flow="act", owner="new", ttl_s=10)
        assert len(end(ledger, take(ledger))) == 1
        assert lookup.flow_depths(connection)["act"].dead == 1
        assert connection.execute(
            "SELECT compatible_from FROM rpa.migration ORDER BY number"
        ).fetchall() == [(None,), (1,)]  # fmt: skip


@pytest.mark.requirement("R5.4", "R8.2")
def test_a_migration_waits_without_holding_anybody_up(old: Database) -> None:
    """A report holds a table: the migration tries again and again, and enqueues and claims go on meanwhile."""
    with connect(old.dsn) as connection:
        connection.execute(_ROWS)
    with connect(old.dsn, autocommit=False) as report, ThreadPoolExecutor(1) as pool:
        assert one(report, "SELECT count(*) FROM rpa.chunk") == 1
        migrating = pool.submit(migrate, old.dsn)
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rpa migrate' AND wait_event_type = 'Lock'"
        )
        turns = 0
        with connect(old.dsn, autocommit=True) as other:
            for _ in range(2):  # it waits, gives way, and waits again
                until(lambda: other.execute(waits.encode()).fetchone() == (1,), 20, "the migration to wait")
                # behind its request for the table: this returns as the migration gives way
                other.execute("SELECT rpa.enqueue('act', ARRAY[NULL], ARRAY['1'])")
                other.execute("SELECT * FROM rpa.chunk WHERE state = 'r' FOR UPDATE SKIP LOCKED")
                turns += 1
            assert not migrating.done()
            assert one(other, "SELECT to_regclass('rpa.correction') IS NULL")
        report.rollback()
        assert migrating.result(60)
    assert turns == 2
    assert {state.state for state in status(old.dsn)} == {"applied"}


@pytest.mark.requirement("R8.1", "R2.2")
def test_a_migration_that_gets_no_lock_names_who_has_it(old: Database) -> None:
    """After its patience: exit code 75, the process in the way, and nothing applied."""
    with connect(old.dsn, autocommit=False, application_name="long report") as report:
        report.execute("SELECT * FROM rpa.chunk")
        with pytest.raises(StoreUnavailable, match=r"in the way: process \d+ \(long report") as error:
            migrate(old.dsn, patience_s=0.1)
        assert error.value.exit_code == 75
    assert [one.state for one in status(old.dsn)] == ["applied", "missing"]


@pytest.mark.requirement("R3.1", "R5.4", "R8.2")
def test_old_and_new_workers_run_beside_each_other(
    old: Database, worker_process: WorkerProcesses, tmp_path: Path
) -> None:
    """Under load, before, while and after the schema changes: every record has one outcome, every batch is whole."""
    engine = Engine(old.dsn, worker_process, tmp_path)

    def start(what: str) -> Any:
        argv = [sys.executable, str(FLOWS / "old_client.py"), what, old.dsn]
        return worker_process("", {}, argv=argv)

    client, worker = start("enqueue"), start("work")
    until(lambda: engine.done() > 100, 30, "old workers to work", engine.describe)
    new = engine.run_command("ACT", "--migrate", claim_records=100)
    new.wait_started()
    since = "FROM rpa.chunk_done d, rpa.migration m WHERE m.namespace = 'rpa_core' AND m.number = 2 AND"

    def both() -> bool:
        ((by_old, by_new),) = engine.ask(
            f"SELECT count(*) FILTER (WHERE d.owner = 'old'), count(*) FILTER (WHERE d.owner <> 'old') {since}"
            " d.done_at > m.applied_at"
        )
        return bool(by_old >= 20 and by_new >= 20 and client.running and worker.running)

    until(both, 60, "old and new workers to have worked on the new schema", engine.describe)
    engine.enqueue([{"n": 1}] * 500, key="new")
    engine.ask("SELECT rpa.rotate_period()")
    until(lambda: engine.done() > 2000, 60, "more to be done", engine.describe)
    assert worker.kill() == -9  # what it holds is taken over
    client.terminate()
    assert client.wait(20) == 0, client.log_text()
    places = engine.settle(60)
    batches = engine.ask(
        "SELECT split_part(key, '-', 1), count(DISTINCT key), count(*) FROM rpa.record"
        " WHERE strpos(key, '-') > 0 GROUP BY 1"
    )
    assert {row[1:] for row in batches} == {(50, 50)}
    assert places == {"done": 49 * len(batches) + 500, "dead": len(batches)}
