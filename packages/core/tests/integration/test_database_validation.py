"""Validating databases against a real server: each kind of trouble has a message of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rpa_core import ConfigurationValidator, ContainerConfigManager
from rpa_core.config.models import DatabaseConfig
from rpa_core.errors import StoreRefused
from rpa_core.services.database import probe_database
from rpa_core.services.diagnosis import Diagnosis, Fault
from rpa_core.services.orchestrator import ServiceOrchestrator

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


@pytest.fixture
def role(database: Any) -> Iterator[tuple[str, str]]:
    """A login role with an awkward password, and a DSN for it."""
    name = f"validated_{conninfo_to_dict(database.dsn)['dbname']}"
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(AWKWARD))
        )
        yield name, changed(database.dsn, user=name, password=AWKWARD)
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.requirement("R1.3")
def test_a_sound_database_has_no_diagnosis(database: Any) -> None:
    """Connecting and the health query succeed, and nothing is left behind."""
    assert probe(database.dsn) is None
    assert probe(database.dsn, health_check_query="CREATE TABLE left_behind (a int) RETURNING 1") is not None
    probe(database.dsn, health_check_query="CREATE TABLE left_behind AS SELECT 1 AS a")
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT to_regclass('left_behind')").fetchone() == (None,)


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
def test_the_password_arrives_and_a_wrong_one_is_told(database: Any, role: tuple[str, str]) -> None:
    """An awkward password works from the URL and apart from it; where the server checks it, a wrong one is final."""
    name, dsn = role
    parts = conninfo_to_dict(database.dsn)
    url = f"postgresql://{name}@127.0.0.1:{parts['port']}/{parts['dbname']}"
    assert probe(dsn) is None
    assert probe(url, password=AWKWARD) is None
    assert probe(url.replace("@", f":{quote(AWKWARD, safe='')}@", 1)) is None
    wrong = probe(url, password="wr0ng-canary")
    if wrong is None:
        pytest.skip("this server trusts local connections and never looks at a password")
    assert (wrong.fault, wrong.final) == (Fault.PASSWORD, True)
    assert "wr0ng-canary" not in wrong.text


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
def test_a_database_that_comes_up_later_is_found(database: Any) -> None:
    """Refused first, then there: the wait goes on by itself and ends well."""
    parts = conninfo_to_dict(database.dsn)
    looks: list[Diagnosis | None] = []
    with socket.create_server(("127.0.0.1", 0)) as later:
        port = later.getsockname()[1]

    def look(name: str, config: DatabaseConfig) -> Diagnosis | None:
        found = probe_database(name, config)
        looks.append(found)
        return probe(changed(database.dsn, port=parts["port"])) if len(looks) > 1 else found

    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_DATABASE_RPA_DB_URL": changed(database.dsn, host="127.0.0.1", port=port),
    }
    config = ContainerConfigManager(environ).load_container_config()
    assert ServiceOrchestrator(config, probe_database=look).wait_for_database(30)
    assert looks[0] is not None
    assert looks[0].fault is Fault.REFUSED
