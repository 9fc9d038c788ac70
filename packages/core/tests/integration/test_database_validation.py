"""Validating databases against a real server: each kind of trouble has a message of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rpa_core import ConfigurationValidator, ContainerConfigManager
from rpa_core.config.models import DatabaseConfig
from rpa_core.errors import StoreRefused
from rpa_core.services.database import probe_database
from rpa_core.services.diagnosis import Diagnosis, Fault
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_testkit.waits import until

if TYPE_CHECKING:
    from rpa_testkit.postgres import EmbeddedPostgres

AWKWARD = "a!b@c$d()e*_,/:;=?@ff[]22"


def probe(dsn: str, **settings: Any) -> Diagnosis | None:
    return probe_database("rpa_db", DatabaseConfig.model_validate({"connection_string": dsn, **settings}))


def changed(dsn: str, **parts: Any) -> str:
    return make_conninfo(dsn, **parts)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def web_port() -> Iterator[int]:
    """A port where something speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.recv(1024)
                    line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.requirement("R1.3")
def test_a_sound_database_has_no_diagnosis(database: Any) -> None:
    """Connecting and the health query succeed, and nothing is left behind."""
    assert probe(database.dsn) is None
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.marks (a int)")
        assert probe(database.dsn, health_check_query="INSERT INTO public.marks VALUES (1) RETURNING a") is None
        assert connection.execute("SELECT count(*) FROM public.marks").fetchone() == (0,)


@pytest.mark.requirement("R1.3", "R2.2")
def test_each_trouble_has_its_own_message(database: Any, silent_port: int, web_port: int) -> None:
    """Database, role, port, host, slowness, TLS, something else listening: told apart, each with advice."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]
    slow = {"connection_timeout": 1}
    cases = {
        Fault.NO_DATABASE: probe(changed(database.dsn, dbname="no_such_database")),
        Fault.NO_ROLE: probe(changed(database.dsn, user="no_such_role")),
        Fault.REFUSED: probe(changed(database.dsn, host="127.0.0.1", port=closed)),
        Fault.UNRESOLVABLE: probe("postgresql://u@no-such-host.invalid/d"),
        Fault.TIMEOUT: probe(f"postgresql://u@127.0.0.1:{silent_port}/d", **slow),
        Fault.TLS: probe(changed(database.dsn, host="127.0.0.1", sslmode="require")),
        Fault.NOT_POSTGRES: probe(f"postgresql://u@127.0.0.1:{web_port}/d"),
    }
    for fault, found in cases.items():
        assert found is not None, fault
        assert found.fault is fault, found
        assert found.advice
    assert len({found.text for found in cases.values() if found}) == len(cases)
    assert {fault for fault, found in cases.items() if found and found.final} == {
        Fault.NO_DATABASE,
        Fault.NO_ROLE,
        Fault.TLS,
        Fault.NOT_POSTGRES,
    }


@pytest.mark.requirement("R1.3", "R2.2")
def test_a_failing_or_slow_health_query(database: Any) -> None:
    """A wrong query is final, one that takes too long is not; both name the variable to change."""
    missing = probe(database.dsn, health_check_query="SELECT 1 FROM no_such_table")
    assert missing is not None
    assert (missing.fault, missing.final) == (Fault.QUERY, True)
    assert "CONTAINER_DATABASE_RPA_DB_HEALTH_QUERY" in missing.advice
    slow = probe(database.dsn, health_check_query="SELECT pg_sleep(30)", connection_timeout=1)
    assert slow is not None
    assert (slow.fault, slow.final) == (Fault.TIMEOUT, False)


@pytest.mark.requirement("R1.3", "R7.2")
def test_the_password_arrives_and_a_wrong_one_is_told(private_postgres: EmbeddedPostgres) -> None:
    """An awkward password works from the URL and apart from it; a wrong or missing one is final, and never shown."""
    private_postgres.create_role("awkward", AWKWARD)
    url = f"postgresql://awkward@127.0.0.1:{private_postgres.port}/postgres"
    assert probe(url, password=AWKWARD) is None
    assert probe(url.replace("@", f":{quote(AWKWARD, safe='')}@", 1)) is None
    for wrong in (probe(url, password="wr0ng-canary"), probe(url)):
        assert wrong is not None
        assert (wrong.fault, wrong.final) == (Fault.PASSWORD, True)
        assert "correct the password" in wrong.advice
        assert "wr0ng-canary" not in wrong.text


@pytest.mark.requirement("R1.3", "R2.5")
def test_a_frozen_server_does_not_hold_the_probe(private_postgres: EmbeddedPostgres) -> None:
    """A server that froze after the connection stood is given up on; when it goes on, it is found well again."""
    database = DatabaseConfig.model_validate({"connection_string": private_postgres.dsn(), "connection_timeout": 1})
    frozen: list[int] = []

    def freeze() -> None:
        with psycopg.connect(private_postgres.dsn(), autocommit=True) as watcher:
            pid = until(lambda: _asking(watcher), 20, "the health query to run")
            os.kill(pid, signal.SIGSTOP)
            frozen.append(pid)

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        found = probe_database("rpa_db", database.model_copy(update={"health_check_query": "SELECT pg_sleep(0.9)"}))
        thread.join()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert found is not None
    assert (found.fault, found.final) == (Fault.TIMEOUT, False)
    assert probe_database("rpa_db", database) is None


def _asking(watcher: psycopg.Connection[Any]) -> int:
    row = watcher.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'rpa-check' AND query LIKE '%pg_sleep%'"
    ).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.requirement("R1.6", "R1.3", "R7.2")
def test_the_report_over_real_databases(database: Any) -> None:
    """One sound and one missing database: the report names the second, as text and JSON, without the password."""
    missing = changed(database.dsn, dbname="no_such_database", password="c4n4ry")
    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_DATABASE_RPA_DB_URL": database.dsn,
        "CONTAINER_DATABASE_SURVEY_HUB_URL": missing,
    }
    report = ConfigurationValidator(environ).generate_startup_report()
    (found,) = report.problems
    assert found.variable == "CONTAINER_DATABASE_SURVEY_HUB_URL"
    assert 'database "no_such_database" does not exist' in found.text
    assert json.loads(report.to_json())["ready"] is False
    assert "c4n4ry" not in report.to_text() + report.to_json()


@pytest.mark.requirement("R2.1", "R2.2")
def test_starting_waits_for_the_real_thing(database: Any) -> None:
    """The manager's and the orchestrator's waits end when the database answers, and at once when it refuses."""
    environ = {"CONTAINER_FLOW_NAME": "f", "CONTAINER_DATABASE_RPA_DB_URL": database.dsn}
    manager = ContainerConfigManager(environ)
    assert manager.wait_for_dependencies(10)
    environ["CONTAINER_DATABASE_RPA_DB_URL"] = changed(database.dsn, dbname="no_such_database")
    refused = ServiceOrchestrator(ContainerConfigManager(environ).load_container_config())
    with pytest.raises(StoreRefused, match="create the database"):
        refused.wait_for_database(30)


@pytest.mark.requirement("R2.5", "R2.2")
def test_a_database_that_comes_back_is_found(private_postgres: EmbeddedPostgres) -> None:
    """Refused while the server is down; started again, the same wait ends well without any restart of ours."""
    dsn = private_postgres.dsn()
    private_postgres.stop()
    environ = {"CONTAINER_FLOW_NAME": "f", "CONTAINER_DATABASE_RPA_DB_URL": dsn}
    config = ContainerConfigManager(environ).load_container_config()
    seen: list[Diagnosis | None] = []

    def look(name: str, database: DatabaseConfig) -> Diagnosis | None:
        seen.append(probe_database(name, database))
        if len(seen) == 2:
            private_postgres.start()
        return seen[-1]

    assert ServiceOrchestrator(config, probe_database=look).wait_for_database(60)
    assert [found.fault for found in seen[:2] if found] == [Fault.REFUSED, Fault.REFUSED]
    assert seen[-1] is None
