"""Roles with exactly the rights that `rpa db grants` gives: what each can do, and what it cannot."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from rpa_core.cli.main import main
from rpa_core.errors import StoreRefused, UsageError
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, Rejected, enqueue, set_aside
from rpa_core.store.retention import drop_expired, rotate
from rpa_core.store.rights import PURPOSES, grant, grants, missing
from rpa_testkit.databases import Database
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from .engine import Engine
from .ledger_steps import FLOW, end, fill, one, open_ledger, records, take

Role = Callable[..., tuple[str, str]]
Run = Callable[..., tuple[int, str, str]]
_AGE = "UPDATE rpa.period SET opened_at = opened_at - interval '100 days', closed_at = closed_at - interval '100 days'"


@pytest.fixture
def role(database: Database) -> Iterator[Role]:
    """Makes login roles without any right, with those of a purpose if one is named; (name, connection string)."""
    made: list[str] = []

    def make(purpose: Any = None, odd: str = "") -> tuple[str, str]:
        name = f"rpa_test_{odd}{secrets.token_hex(4)}"
        with connect(database.dsn) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pass-word'").format(sql.Identifier(name)))
            made.append(name)
            if purpose is not None:
                grant(connection, name, purpose)
        parts = urlsplit(database.dsn)
        return name, parts._replace(netloc=f"{quote(name)}:pass-word@{parts.hostname}:{parts.port}").geturl()

    yield make
    with connect(database.dsn) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def rpa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an `rpa` command in this process, on the database given first."""

    def run(dsn: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", dsn)
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


def _refused(connection: psycopg.Connection[Any], *queries: str) -> None:
    for query in queries:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(query.encode())


@pytest.mark.requirement("R7.1", "N1")
def test_an_enqueuer_enqueues_and_reads_nothing(database: Database, role: Role) -> None:
    """By SQL and by Python, few and many, a new flow, large payloads, unreadable lines; across a rotation."""
    fill(database.dsn, 1, prefix="secret")
    _, dsn = role("enqueue")
    for turn in range(2):
        with connect(dsn, autocommit=False) as connection:
            assert enqueue(connection, "fresh", records(5, prefix=f"{turn}few")) == (5, 0)
            assert enqueue(connection, "fresh", records(2500, prefix=f"{turn}many")) == (2500, 0)
            assert enqueue(connection, "fresh", records(2500, prefix=f"{turn}many")) == (0, 2500)
            assert enqueue(connection, "fresh", records(50, prefix=None)) == (50, 0)
            large = [NewRecord(b'"%s"' % (b"x" * 3_000_000), f"{turn}large{n}") for n in range(3)]
            assert enqueue(connection, "fresh", large) == (3, 0)
            assert set_aside(connection, "fresh", [Rejected(b"{}", f"{turn}bad", ("no",))]) == 1
            connection.commit()
            query = "SELECT accepted FROM rpa.enqueue('fresh', ARRAY[%s, NULL], ARRAY['1', '2'])"
            assert one(connection, query, (f"{turn}sql",)) == 2
            query = "SELECT accepted FROM rpa.enqueue('counted', '[0:1]={NULL,NULL}', '[0:1]={1,22}')"
            assert one(connection, query) == 2
        with connect(database.dsn) as owner:
            rotate(owner, period_days=0)
    with connect(dsn) as connection:
        _refused(
            connection,
            "SELECT payload FROM rpa.record",
            "SELECT * FROM rpa.record_p1",
            "SELECT data FROM rpa.result",
            "SELECT reasons FROM rpa.dead_letter",
            "SELECT * FROM rpa.chunk",
            "UPDATE rpa.record SET payload = '1'",
            "DELETE FROM rpa.record",
            "DELETE FROM rpa.chunk",
            "UPDATE rpa.flow SET paused = true",
            "SELECT rpa.rotate_if_due('1 day')",
            "SELECT rpa.drop_if_finished(1, '1 day')",
            "CREATE TABLE rpa.mine (id integer)",
        )
    with connect(database.dsn) as owner:
        assert one(owner, "SELECT count(*) FROM rpa.record") == 1 + 2 * (5 + 2500 + 50 + 3 + 1 + 2 + 2)
        counted = "SELECT bytes FROM rpa.chunk WHERE flow = rpa.flow_id('counted')"
        assert owner.execute(counted.encode()).fetchall() == [(3,), (3,)]


@pytest.mark.requirement("R7.1", "N1")
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_enqueuer_may_see_the_past(database: Database, role: Role, level: str) -> None:
    """Whatever its isolation level is by default."""
    name, dsn = role("enqueue")
    with connect(database.dsn) as owner:
        owner.execute(
            sql.SQL("ALTER ROLE {} SET default_transaction_isolation = {}").format(sql.Identifier(name), level)
        )
    with connect(dsn, autocommit=False) as connection:
        assert enqueue(connection, FLOW, records(40)) == (40, 0)


@pytest.mark.requirement("R7.1", "R6.2", "N5")
def test_a_worker_needs_no_more_than_its_rights(
    database: Database, role: Role, worker_process: WorkerProcesses, tmp_path: Any
) -> None:
    """A whole flow with retries, dead letters and records for another flow; rotation and retention of old periods."""
    owner = Engine(database.dsn, worker_process, tmp_path)
    owner.enqueue({"n": number, "do": "aside" if number < 2 else "done"} for number in range(20))
    name, dsn = role("worker")
    with connect(database.dsn) as connection:
        assert missing(connection, "worker", name) == []
        connection.execute(_AGE)
        connection.execute("SELECT rpa.rotate_period()")
        connection.execute(_AGE)
    owner.enqueue([{"n": 1000}], key="newer")
    worker = Engine(dsn, worker_process, tmp_path).start("FORWARD", period_days=1, retention_days=1)
    until(lambda: owner.unfinished("act") == 0, 30, "the flow's records to be done", owner.describe)
    assert owner.places()["dead"] == 2
    assert owner.unfinished("later") == 19
    until(
        lambda: owner.ask("SELECT max(id) FROM rpa.period WHERE closed_at IS NULL") == [(3,)],
        30,
        "the period to be closed",
        owner.describe,
    )
    until(lambda: worker.metric("rpa_retention_last_success_timestamp_seconds") > 0, 20, "the metric", owner.describe)
    assert worker.metric('rpa_retention_blocked{reason="rights"}') == 0
    assert "retention.blocked" not in worker.process.log_text() or "dead letters" in worker.process.log_text()
    with connect(dsn) as connection:
        _refused(
            connection,
            "CREATE TABLE rpa.mine (id integer)",
            "DROP TABLE rpa.record_p1",
            "SELECT rpa.rotate_period()",
            "DELETE FROM rpa.record",
            "UPDATE rpa.record SET payload = '1'",
            "DELETE FROM rpa.result",
            "UPDATE rpa.migration SET name = ''",
        )


@pytest.mark.requirement("R7.1", "R6.2")
def test_a_worker_drops_what_is_due_and_nothing_else(database: Database, role: Role) -> None:
    """Finished periods that closed a day ago or more; neither younger ones nor those with something in them."""
    fill(database.dsn, 5)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger))
    ledger.close()
    _, dsn = role("worker")
    with connect(database.dsn) as owner, connect(dsn) as worker:
        assert rotate(worker, period_days=0) is None
        owner.execute("UPDATE rpa.period SET opened_at = opened_at - interval '25 hours'")
        assert rotate(worker, period_days=0) == 2
        assert rotate(worker, period_days=0) is None
        assert drop_expired(worker, retention_days=0) == []
        owner.execute("UPDATE rpa.period SET closed_at = closed_at - interval '25 hours' WHERE id = 1")
        assert one(worker, "SELECT rpa.drop_if_finished(2, '0 s')") is False
        assert one(worker, "SELECT rpa.drop_if_finished(99, '0 s')") is False
        with worker.transaction():
            worker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with pytest.raises(errors.RaiseException, match="READ COMMITTED"), worker.transaction():
                worker.execute("SELECT rpa.drop_if_finished(1, '0 s')")
        assert drop_expired(worker, retention_days=0) == [1]
        assert enqueue(worker, FLOW, records(40)) == (40, 0)
        assert one(worker, "SELECT count(*) FROM rpa.record") == 40


@pytest.mark.requirement("R6.2", "R5.2")
def test_a_worker_that_may_not_retain_reports_it(
    database: Database, role: Role, worker_process: WorkerProcesses, tmp_path: Any, rpa: Run
) -> None:
    """At its start, with what to run, and as a metric; it works on, and `rpa db retain` by the owner does it."""
    name, dsn = role("worker")
    with connect(database.dsn) as owner:
        for function in ("rotate_if_due(interval)", "drop_if_finished(integer, interval)"):
            owner.execute(
                sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM {}").format(
                    sql.SQL(f"rpa.{function}"),
                    sql.Identifier(name),
                )
            )
        owner.execute(_AGE)
    engine = Engine(dsn, worker_process, tmp_path)
    worker = engine.start()
    worker.process.wait_for_log("retention.blocked", 30)
    assert f"rpa db grants {name} --for worker --apply" in worker.process.log_text()
    assert worker.metric('rpa_retention_blocked{reason="rights"}') == 1
    Engine(database.dsn, worker_process, tmp_path).enqueue([{"n": 1}])
    engine.settle()
    assert "watcher has no connection" not in worker.process.log_text()
    assert "EXECUTE on rpa.rotate_if_due(interval)" in rpa(dsn, "db", "status")[1]
    assert rpa(dsn, "db", "retain")[0] == 77
    code, out, _ = rpa(database.dsn, "db", "retain", "--json")
    assert (code, json.loads(out)) == (0, {"opened": 2, "dropped": [], "kept": {}})


@pytest.mark.requirement("R6.2", "N5")
def test_what_keeps_a_period_is_reported(
    database: Database, worker_process: WorkerProcesses, tmp_path: Any, rpa: Run
) -> None:
    """A dead letter past the retention: in the log, as a metric and in `rpa db status`, until it is discarded."""
    engine = Engine(database.dsn, worker_process, tmp_path)
    engine.enqueue([{"n": 1, "do": "aside"}])
    engine.start().process.wait_for_log("worker.started", 20)
    engine.settle()
    with connect(database.dsn) as owner:
        owner.execute("SELECT rpa.rotate_period()")
        owner.execute(_AGE)
    worker = engine.start()
    worker.process.wait_for_log("retention.blocked", 30)
    assert worker.metric('rpa_retention_blocked{reason="dead_letters"}') == 1
    assert "kept for its dead letters" in rpa(database.dsn, "db", "status")[1]
    assert rpa(database.dsn, "records", "discard", "act", "--all", "--yes")[0] == 0
    code, out, _ = rpa(database.dsn, "db", "retain", "--json")
    assert (code, json.loads(out)["dropped"]) == (0, [1])


@pytest.mark.requirement("R7.1")
def test_a_reader_reads_and_writes_nothing(database: Database, role: Role, rpa: Run) -> None:
    """Every question is answered; every command that changes something is refused with 77."""
    fill(database.dsn, 3)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), dead="rejected")
    ledger.close()
    _, dsn = role("read")
    for command in (
        ("status",),
        ("status", FLOW, "k0"),
        ("status", "--exact"),
        ("failed", FLOW),
        ("show", FLOW, "k0"),
        ("history",),
    ):
        code, _, err = rpa(dsn, "records", *command)
        assert code == 0, (command, err)
    assert rpa(dsn, "db", "status")[0] == 0
    assert rpa(dsn, "db", "migrate")[0] == 0
    for refused in (
        ("pause", FLOW),
        ("retry", FLOW, "k0"),
        ("retry", FLOW, "--all"),
        ("discard", FLOW, "--all", "--yes"),
    ):
        code, _, err = rpa(dsn, "records", *refused)
        assert (code, "permission denied" in err) == (77, True), (refused, err)
    with connect(dsn) as connection:
        _refused(connection, "SELECT * FROM rpa.enqueue('steps', ARRAY['a'], ARRAY['1'])", "DELETE FROM rpa.result")


@pytest.mark.requirement("R7.1", "N5")
def test_an_operator_operates(database: Database, role: Role, rpa: Run, tmp_path: Any) -> None:
    """Pause, retry, discard, correct, load and retain, without owning anything."""
    fill(database.dsn, 4)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), dead="rejected")
    ledger.close()
    _, dsn = role("operate")
    payload = tmp_path / "payload.json"
    payload.write_text('{"id": "k9"}')
    for command in (
        ("pause", FLOW),
        ("pause", "later", "--create"),
        ("resume", FLOW),
        ("requeue", FLOW),
        ("retry", FLOW, "k0"),
        ("discard", FLOW, "k1", "--yes"),
        ("correct", FLOW, payload, "--record", "k2"),
        ("correct", FLOW, payload, "--record", "k3", "--key", "id"),
        ("load", FLOW, "--format", "ndjson", payload),
    ):
        code, _, err = rpa(dsn, "records", *command)
        assert code == 0, (command, err)
    assert rpa(dsn, "db", "retain")[0] == 0


@pytest.mark.requirement("R7.1", "R7.7")
def test_odd_names_of_roles(database: Database, role: Role, rpa: Run) -> None:
    """Quotes, blanks, signs and other letters are that role's name and nothing else; what is no name is refused."""
    name, dsn = role(odd='Ünï "c" \'%s; DROP SCHEMA rpa; -- ')
    for purpose in PURPOSES:
        code, out, _ = rpa(database.dsn, "db", "grants", name, "--for", purpose)
        with connect(database.dsn) as owner:
            owner.execute(out.encode())
            owner.execute(out.encode())
            assert missing(owner, purpose, name) == []
        assert rpa(database.dsn, "db", "grants", name, "--for", purpose, "--apply")[0] == 0
    with connect(dsn) as connection:
        assert enqueue(connection, FLOW, records(1)) == (1, 0)
    for wrong in ("", "public", "x" * 64, "ü" * 32):
        with pytest.raises(UsageError):
            grants(wrong, "read")
    code, _, err = rpa(database.dsn, "db", "grants", "rpa_test_nobody", "--for", "read", "--apply")
    assert (code, "CREATE ROLE" in err) == (77, True)


@pytest.mark.requirement("R7.1")
def test_a_grant_that_is_ignored_is_an_error(database: Database, role: Role) -> None:
    """PostgreSQL answers a grant without the option to grant with a warning."""
    _, worker = role("worker")
    other, _ = role()
    with connect(worker) as connection, pytest.raises(StoreRefused):
        grant(connection, other, "read")
    with connect(database.dsn) as owner:
        assert missing(owner, "read", other) == ["USAGE on schema rpa"]


@pytest.mark.requirement("R7.1")
def test_rights_name_what_there_is(database: Database, role: Role) -> None:
    """Every right of every purpose is on something that the migrated schema has."""
    with connect(database.dsn) as owner:
        for purpose in PURPOSES:
            assert missing(owner, purpose) == []
    name, _ = role()
    with connect(database.dsn) as owner:
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA rpa TO {}").format(sql.Identifier(name)))
        assert "INSERT on rpa.result" in missing(owner, "worker", name)
