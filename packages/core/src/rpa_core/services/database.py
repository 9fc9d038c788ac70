"""Looking at a database: connect, ask the health query, say what is wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rpa_core.config.models import DatabaseConfig
from rpa_core.observability.redaction import Redactor
from rpa_core.services.diagnosis import Diagnosis, Fault, of_database

if TYPE_CHECKING:
    import psycopg


def probe_database(name: str, database: DatabaseConfig) -> Diagnosis | None:
    """None when the database answers its health query within its connection timeout, else what is wrong.

    Opens one connection and closes it; the query runs in a transaction that is rolled back.
    """
    import psycopg

    dsn = database.dsn()
    hide = Redactor([dsn, *_secrets(database)])
    asking = False
    try:
        with _connected(dsn, database.connection_timeout) as connection:
            asking = True
            with _watchdog(connection, database.connection_timeout):
                _ask(connection, database)
    except psycopg.Error as error:
        found = of_database(str(error), error.sqlstate, query=asking)
        if asking and isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            seen = f"no answer to the health query within {database.connection_timeout:g} s"
            found = Diagnosis(fault=Fault.TIMEOUT, seen=seen, advice="look at the server's load", final=False)
    except (OSError, UnicodeError) as error:  # the resolver's own errors, and host names that are none
        found = of_database(str(error), None)
    else:
        return None
    upper = name.upper()
    return Diagnosis(
        fault=found.fault,
        seen=hide.text(found.seen),
        advice=found.advice.replace("<NAME>", upper),
        final=found.final,
    )


@contextlib.contextmanager
def _connected(dsn: str, timeout_s: float) -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    # libpq counts whole seconds and reads 1 as 2.
    with psycopg.connect(
        dsn, connect_timeout=max(2, round(timeout_s)), application_name="rpa-check", prepare_threshold=None
    ) as connection:
        yield connection


def _ask(connection: psycopg.Connection[Any], database: DatabaseConfig) -> None:
    from psycopg import sql

    limit_ms = max(1, int(database.connection_timeout * 1000))
    with connection.transaction(force_rollback=True):
        # SET LOCAL ends with the transaction: nothing is left behind on a connection that a pooler shares.
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(limit_ms))
        connection.execute(database.health_check_query.encode()).fetchall()


@contextlib.contextmanager
def _watchdog(connection: psycopg.Connection[Any], timeout_s: float) -> Iterator[None]:
    """Cut the line when the server is frozen: then neither its timeout nor TCP's would end the wait."""
    line = socket.socket(fileno=os.dup(connection.fileno()))

    def cut() -> None:
        with contextlib.suppress(OSError):  # closed meanwhile
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s + 1.0, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        line.close()


def _secrets(database: DatabaseConfig) -> list[str]:
    from rpa_core.config.redact import dsn_passwords

    found = list(dsn_passwords(database.connection_string.get_secret_value()))
    return [*found, database.password.get_secret_value()] if database.password is not None else found
