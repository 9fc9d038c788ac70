"""Who may migrate, and what a schema that is newer or changed means for workers and commands."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from psycopg import sql

from rpa_core.cli.main import main
from rpa_core.errors import SchemaError, StoreRefused
from rpa_core.processing.flow import Flow
from rpa_core.processing.outcome import Done
from rpa_core.runtime import schema
from rpa_core.store.connect import connect
from rpa_core.store.intake import enqueue
from rpa_core.store.migrate import migrate, status
from rpa_testkit.databases import Database, Databases

from .engine import Engine
from .ledger_steps import FLOW, one, records

Run = Callable[..., tuple[int, str, str]]
_FUTURE = (
    "INSERT INTO rpa.migration (namespace, number, name, sha256, compatible_from)"
    " VALUES ('rpa_core', 99, 'future', 'x', %s)"
)
_OWNERS = """
SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.relnamespace = 'rpa'::regnamespace
UNION SELECT r.rolname FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'rpa'::regnamespace
"""


@pytest.fixture
def empty(databases: Databases) -> Iterator[Database]:
    """A database without any table."""
    with databases.empty() as made:
        yield made


@pytest.fixture
def owner(empty: Database) -> Iterator[tuple[str, str]]:
    """A login role with no right on the database but to connect; (name, connection string)."""
    name = f"rpa_test_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    with connect(empty.dsn) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pass-word'").format(identifier))
    parts = urlsplit(empty.dsn)
    yield name, parts._replace(netloc=f"{name}:pass-word@{parts.hostname}:{parts.port}").geturl()
    with connect(empty.dsn) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
        connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.fixture
def rpa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an `rpa` command in this process, on the database given first."""

    def run(dsn: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", dsn)
        capsys.readouterr()
        code = main(list(arguments))
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


def _handle(*_: object) -> Done:
    return Done()


def _flow() -> Flow:
    return Flow(name="act", handle=_handle)


@pytest.mark.requirement("D4", "R7.1")
def test_the_owner_of_the_schema_needs_no_right_on_the_database(
    empty: Database, owner: tuple[str, str], rpa: Run
) -> None:
    """Not for the first migration, not when nothing is to be done; without the schema the missing right is named."""
    name, dsn = owner
    code, _, err = rpa(dsn, "db", "migrate")
    assert (code, f'CREATE SCHEMA rpa AUTHORIZATION "{name}"' in err, "GRANT CREATE ON DATABASE" in err) == (
        77, True, True,
    ), err  # fmt: skip
    with connect(empty.dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA rpa AUTHORIZATION {}").format(sql.Identifier(name)))
    assert rpa(dsn, "db", "migrate")[0] == 0
    assert rpa(dsn, "db", "migrate")[:2] == (0, "rpa_db: up to date\n")
    with connect(dsn, autocommit=False) as connection:
        assert enqueue(connection, FLOW, records(3)) == (3, 0)


@pytest.mark.requirement("D4", "R7.1")
def test_a_reader_of_the_schema_may_ask_for_a_migration(empty: Database, owner: tuple[str, str], rpa: Run) -> None:
    """Up to date: nothing is needed. Something missing: refused, naming the owner, with nothing changed."""
    name, dsn = owner
    migrate(empty.dsn)
    with connect(empty.dsn) as connection:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA rpa TO {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("GRANT SELECT ON rpa.migration TO {}").format(sql.Identifier(name)))
        assert migrate(dsn) == []
        connection.execute("DELETE FROM rpa.migration WHERE number = 2")
        schema_owner = one(connection, "SELECT current_user::text")
    code, _, err = rpa(dsn, "db", "migrate")
    assert (code, f"the owner of schema rpa, which is {schema_owner}" in err) == (77, True), err
    with pytest.raises(StoreRefused):
        migrate(dsn)


@pytest.mark.requirement("D4", "R7.1")
def test_what_an_administrator_migrates_belongs_to_the_owner(empty: Database, owner: tuple[str, str]) -> None:
    """Who migrated first owns everything, also what a superuser adds later: functions act with no more than that."""
    name, _ = owner
    with connect(empty.dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA rpa AUTHORIZATION {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(name)))
        connection.execute(
            "CREATE TABLE rpa.migration (namespace text, number integer, name text, sha256 text,"
            " applied_at timestamptz DEFAULT now(), PRIMARY KEY (namespace, number))"
        )
    assert migrate(empty.dsn)
    with connect(empty.dsn) as connection:
        assert connection.execute(_OWNERS.encode()).fetchall() == [(name,)]


@pytest.mark.requirement("D4", "R8.2")
def test_a_newer_schema_is_noticed_by_everything(database: Database, rpa: Run) -> None:
    """`db status` 78, `db migrate` 78, a worker's check refuses; the migration is named."""
    with connect(database.dsn) as connection:
        connection.execute(_FUTURE, (None,))
    code, out, _ = rpa(database.dsn, "db", "status")
    assert (code, "0099_future" in out, "newer than this version" in out) == (78, True, True)
    assert rpa(database.dsn, "db", "migrate")[0] == 78
    with pytest.raises(SchemaError, match="0099_future"):
        schema.check(_flow(), {"rpa_db": database.dsn})


@pytest.mark.requirement("D4", "R8.2")
def test_a_newer_schema_that_is_compatible_is_a_warning(
    database: Database, rpa: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """While workers are replaced the old ones go on, and start again where they must, with --migrate too."""
    newest = status(database.dsn)[-1].number
    with connect(database.dsn) as connection:
        connection.execute(_FUTURE, (newest,))
    code, out, _ = rpa(database.dsn, "db", "status", "--json")
    assert (code, json.loads(out)["migrations"][-1]["state"]) == (0, "newer_compatible")
    assert rpa(database.dsn, "db", "migrate")[0] == 0
    schema.check(_flow(), {"rpa_db": database.dsn})
    assert "0099_future" in caplog.text
    with connect(database.dsn) as connection:
        connection.execute("UPDATE rpa.migration SET compatible_from = %s WHERE number = 99", (newest + 1,))
    assert rpa(database.dsn, "db", "status")[0] == 78


@pytest.mark.requirement("D4", "R8.2")
def test_a_changed_file_is_noticed_by_everything(database: Database, rpa: Run) -> None:
    """A checksum that differs: `db status` 78, and a worker's check refuses."""
    with connect(database.dsn) as connection:
        connection.execute("UPDATE rpa.migration SET sha256 = 'other' WHERE number = 1")
    code, out, _ = rpa(database.dsn, "db", "status")
    assert (code, "another file" in out) == (78, True)
    with pytest.raises(SchemaError, match="0001_ledger"):
        schema.check(_flow(), {"rpa_db": database.dsn})


@pytest.mark.requirement("D4", "R8.2", "R1.1")
def test_a_worker_does_not_start_on_a_newer_schema(engine: Engine) -> None:
    """Exit code 78 and one line that says what to run."""
    with connect(engine.dsn) as connection:
        connection.execute(_FUTURE, (None,))
    worker = engine.run_command("ACT")
    assert worker.process.wait(30) == 78
    assert "newer than this version" in worker.process.log_text()


@pytest.mark.requirement("N2")
def test_a_database_that_is_not_utf_8_is_refused(databases: Databases, empty: Database, rpa: Run) -> None:
    """By migrate and status, with the encoding and how to make another."""
    name = f"rpa_test_{secrets.token_hex(6)}"
    with connect(empty.dsn) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'").format(
                sql.Identifier(name)
            )
        )
        try:
            dsn = empty.dsn.replace(empty.name, name)
            for command in ("migrate", "status"):
                code, _, err = rpa(dsn, "db", command)
                assert (code, "SQL_ASCII" in err, "UTF8" in err) == (78, True, True)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
