"""What role, database and environment do to a session of ours: text stays text, and every end of a session is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rpa_core.errors import SchemaError, StoreRefused, StoreUnavailable
from rpa_core.processing.flow import Flow
from rpa_core.processing.outcome import Done
from rpa_core.runtime import schema
from rpa_core.store.connect import classify, connect
from rpa_core.store.database import Database as Connections
from rpa_core.store.migrate import migrate
from rpa_testkit.databases import Database
from rpa_testkit.waits import until

from .engine import Engine
from .entrance_kinds import stored
from .ledger_steps import one


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection on which no setting falls that is made later."""
    with connect(database.dsn) as connection:
        yield connection


def _rpa(
    dsn: str, *arguments: object, stdin: bytes | None = None, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and all output of an `rpa` command."""
    done = subprocess.run(
        [sys.executable, "-m", "rpa_core.cli.main", *map(str, arguments)],
        input=stdin,
        env={**os.environ, "CONTAINER_DATABASE_RPA_DB_URL": dsn, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("by", ["environment", "url", "options", "role"])
@pytest.mark.requirement("R7.7", "R3.1")
def test_files_are_loaded_as_utf8_whatever_the_client_encoding_is(
    database: Database, admin: psycopg.Connection[Any], tmp_path: Path, by: str
) -> None:
    """40 rows by COPY, 5 of them again by INSERT, all again: each key once and to the letter."""
    keys = [f"ü{number}🔑" for number in range(40)]
    many, few = tmp_path / "many.csv", tmp_path / "few.csv"
    many.write_text("name,v\n" + "".join(f"{key},{number}\n" for number, key in enumerate(keys)), encoding="utf-8")
    few.write_text("name,v\n" + "".join(f"{key},{number}\n" for number, key in enumerate(keys[:5])), encoding="utf-8")
    environment = {"PGCLIENTENCODING": "LATIN1"} if by == "environment" else {}
    dsn = {
        "url": f"{database.dsn}?client_encoding=LATIN1",
        "options": f"{database.dsn}?options=-c%20client_encoding%3DLATIN1",
    }.get(by, database.dsn)
    if by == "role":
        admin.execute(f"ALTER DATABASE {database.name} SET client_encoding = 'LATIN1'")
    for file, answer in ((many, "40 records"), (few, "0 records into kk, 5 already"), (many, "0 records into kk, 40")):
        code, output = _rpa(dsn, "records", "load", "kk", file, "--key", "name", environment=environment)
        assert code == 0, output
        assert answer in output
    assert [record.key for record in stored(database.dsn, "kk")] == keys
    with Connections("rpa_db", dsn).connect(application_name="test") as line:
        assert line.info.encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.requirement("R2.2", "R7.7")
def test_a_database_that_is_not_utf8_is_refused(
    admin: psycopg.Connection[Any], database: Database, encoding: str
) -> None:
    """By migrate and by the check of a start: 78 and one line with the way out; nothing is made in it."""
    name = f"{database.name}_{encoding.lower()}"
    admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    dsn = make_conninfo(database.dsn, dbname=name)
    try:
        with pytest.raises(SchemaError, match=rf"encoding {encoding}.*ENCODING 'UTF8' TEMPLATE template0"):
            migrate(dsn)
        with pytest.raises(SchemaError, match=f"encoding {encoding}"):
            schema.check(Flow(name="act", handle=lambda record, context: Done({})), {"rpa_db": dsn})
        code, output = _rpa(dsn, "db", "migrate", "--database", dsn)
        assert code == 78
        assert len(output.strip().splitlines()) == 1
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT to_regnamespace('rpa')").fetchone() == (None,)
    finally:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


_ENDS: dict[str, tuple[str, Callable[[psycopg.Connection[Any], psycopg.Connection[Any]], object]]] = {
    "25P03": ("SET idle_in_transaction_session_timeout = '10ms'", lambda session, _: session.execute("SELECT 1")),
    "25P04": ("SET transaction_timeout = '10ms'", lambda session, _: session.execute("SELECT pg_sleep(5)")),
    "57P05": ("SET idle_session_timeout = '10ms'", lambda session, _: session.rollback()),
    "57P01": (
        "SELECT 1",
        lambda session, admin: admin.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,)),
    ),
    "57014": ("SET statement_timeout = '10ms'", lambda session, _: session.execute("SELECT pg_sleep(5)")),
    "22012": ("SET exit_on_error = on", lambda session, _: session.execute("SELECT 1/0")),
}


@pytest.mark.parametrize("state", _ENDS)
@pytest.mark.requirement("R4.1", "R8.3")
def test_every_end_of_a_session_by_the_server_is_a_lost_connection(
    database: Database, admin: psycopg.Connection[Any], state: str
) -> None:
    """Timeouts of the role, an administrator, any error that is FATAL: to be tried again, and never a defect."""
    begin, then = _ENDS[state]
    with psycopg.connect(database.dsn) as session:
        if state == "25P04" and session.info.server_version < 170000:
            pytest.skip("transaction_timeout came with PostgreSQL 17")
        pid = session.info.backend_pid

        def use() -> None:
            session.execute(begin)
            session.commit()
            then(session, admin)
            gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
            until(lambda: one(admin, gone, (pid,)), 20, "the end of the session")
            session.execute("SELECT 1")

        with pytest.raises(psycopg.Error) as caught:
            use()
    assert caught.value.sqlstate in (state, None)  # None: the server's last word was read with the lost connection
    assert isinstance(classify(caught.value), StoreUnavailable)
    assert isinstance(classify(psycopg.errors.lookup(state)("no diagnosis")), StoreUnavailable) or state == "22012"


@pytest.mark.requirement("R8.3", "R7.7")
def test_a_slow_file_and_a_timeout_of_the_role_are_no_defect(
    database: Database, admin: psycopg.Connection[Any]
) -> None:
    """`rpa records load -` over a session that the server ends: 75, the cause, nothing loaded."""
    admin.execute(f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = '50ms'")
    argv = [sys.executable, "-m", "rpa_core.cli.main", "records", "load", "slow", "-", "--format", "csv", "--json"]
    argv += ["--source", "slow"]  # read once, inside the transaction
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "CONTAINER_DATABASE_RPA_DB_URL": database.dsn},
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the load may be over before it was given everything
        process.stdin.write(b"a,b\n" + b"1,2\n" * 100_000)
        process.stdin.flush()
    ended = "SELECT sessions_fatal FROM pg_stat_database WHERE datname = %s"
    until(lambda: one(admin, ended, (database.name,)) == 1, 30, "the end of the load's session")
    output, _ = process.communicate(b"3,4\n", 60)
    assert process.returncode == 75, output
    assert b"idle-in-transaction timeout" in output or b"connection" in output
    assert stored(database.dsn, "slow") == []


@pytest.mark.requirement("R8.3", "R7.7")
def test_a_read_only_role_is_named_at_once(engine: Engine) -> None:
    """The CLI and a worker that starts end with 77 and the setting; no one is asked to try again."""
    engine.enqueue([{"n": 1}])
    with connect(engine.dsn) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        code, output = _rpa(engine.dsn, "records", "load", "act", "-", "--format", "csv", stdin=b"a\n1\n")
        assert (code, "default_transaction_read_only is on" in output) == (77, True), output
        code, output = _rpa(engine.dsn, "records", "status", "act")
        assert code == 0  # who only reads may
        worker = engine.run_command("ACT", "--until-empty")
        assert worker.process.wait(30) == 77, worker.process.log_text()
        assert "default_transaction_read_only is on" in worker.process.log_text()


@pytest.mark.requirement("R4.1", "R8.3")
def test_a_role_that_becomes_read_only_is_waited_for(engine: Engine) -> None:
    """A worker that has worked says what is set, waits, and goes on when it is reset."""
    engine.enqueue([{"n": 1}])
    worker = engine.run_command("ACT")
    assert engine.settle() == {"done": 1}
    with connect(engine.dsn) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (name,),
        )
        worker.process.wait_for_log("default_transaction_read_only is on", 30)
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    engine.enqueue([{"n": 2}], key="later")
    assert engine.settle() == {"done": 2}
    worker.process.terminate()
    assert worker.process.wait(20) == 0


@pytest.mark.requirement("R8.3")
def test_read_only_is_refused_by_a_setting_and_waited_for_on_a_standby(admin: psycopg.Connection[Any]) -> None:
    """The same code means a failover in one case; without the connection it is taken for that."""
    admin.execute("SET default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
        admin.execute("SELECT rpa.open_period(); SELECT nextval('rpa.record_block')")
    assert isinstance(classify(caught.value, admin), StoreRefused)
    assert isinstance(classify(caught.value), StoreUnavailable)
    admin.execute("SET default_transaction_read_only = off")
    assert isinstance(classify(caught.value, admin), StoreUnavailable)
