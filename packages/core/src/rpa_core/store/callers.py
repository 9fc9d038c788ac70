"""The connections that callers bring: which of them are taken, and how a write on one is all of it or nothing.

autocommit, no transaction open   the write is a transaction of its own
any other                         a savepoint in the caller's transaction; the caller commits
client_encoding is not UTF-8      it is, for the time of the write
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from rpa_core.errors import UsageError
from rpa_core.store.connect import check_encoding, reported

_SQL = "SELECT accepted, duplicates FROM rpa.enqueue(flow, keys, payloads)"


class HasConnection(Protocol):
    """SQLAlchemy's `Session` and `Connection`."""

    @property
    def connection(self) -> Any:
        """What is beneath, or a method that returns it."""
        ...


class HasDriverConnection(Protocol):
    """What SQLAlchemy's `Engine.raw_connection` returns."""

    @property
    def driver_connection(self) -> Any:
        """The driver's connection."""
        ...


CallersConnection = psycopg.Connection[Any] | HasConnection | HasDriverConnection
Cursor = psycopg.Cursor[TupleRow]


def driver_of(given: CallersConnection) -> psycopg.Connection[Any]:
    """The psycopg connection that is meant; SQLAlchemy's transaction is begun, so that its commit is one.

    Raises UsageError for whatever else there is and for a transaction that has failed already, SchemaError for a
    database that does not keep text as UTF-8.
    """
    connection = given if isinstance(given, psycopg.Connection) else _unwrapped(given)
    if not isinstance(connection, psycopg.Connection):
        raise UsageError(_not_taken(given, connection))
    if connection.info.transaction_status is TransactionStatus.INERROR:
        raise UsageError("the connection's transaction has failed: roll it back, or to a savepoint, before enqueueing")
    check_encoding(connection)
    return connection


def _unwrapped(given: Any) -> Any:
    if hasattr(given, "sync_session") or hasattr(given, "sync_connection"):
        return given  # SQLAlchemy's async ones: their methods return coroutines
    if hasattr(given, "get_bind") and callable(getattr(given, "connection", None)):
        given = given.connection()
    if hasattr(given, "exec_driver_sql"):
        if not given.in_transaction():
            given.begin()
        given = given.connection
    return getattr(given, "driver_connection", given)


def _not_taken(given: object, found: object) -> str:
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    if found is not given:
        kind += f" over {type(found).__module__}.{type(found).__qualname__}"
    return (
        "enqueue takes a connection of psycopg 3 (psycopg.Connection), or SQLAlchemy's Session, Connection or "
        f"raw_connection() over one; got {kind}. Take a connection from an engine or a pool first; with an async or "
        f"another driver execute `{_SQL}` with up to 1000 keys (text or NULL) and payloads (JSON text) at a time"
    )


def cursor_of(connection: psycopg.Connection[Any]) -> Cursor:
    """A cursor that answers in tuples and takes `%s`, whatever the connection makes by itself."""
    return psycopg.Cursor(connection, row_factory=tuple_row)


def is_pipelined(connection: psycopg.Connection[Any]) -> bool:
    """Whether the caller is in psycopg's pipeline mode, in which there is no COPY."""
    return connection.pgconn.pipeline_status != PipelineStatus.OFF


def is_utf8(connection: psycopg.Connection[Any]) -> bool:
    """Whether what is sent as UTF-8 is taken as UTF-8."""
    return reported(connection, "client_encoding") in (None, "UTF8")  # None: psycopg takes it for UTF-8, too


@contextmanager
def all_or_nothing(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """What is written in here is kept whole, or undone with the error that ends it."""
    if connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        with connection.transaction():
            yield
        return
    with savepoint(connection):
        yield


@contextmanager
def savepoint(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """As `Connection.transaction`, but never the outermost one: a transaction that this begins stays the caller's."""
    cursor = cursor_of(connection)
    cursor.execute(b"SAVEPOINT rpa_write")
    try:
        yield
    except BaseException:
        if is_pipelined(connection):
            with suppress(psycopg.Error), connection.pipeline():
                pass  # its end synchronizes: until then every statement after an error is skipped
        with suppress(psycopg.Error):  # a connection that is gone has undone everything
            cursor.execute(b"ROLLBACK TO SAVEPOINT rpa_write")
            cursor.execute(b"RELEASE SAVEPOINT rpa_write")
        raise
    cursor.execute(b"RELEASE SAVEPOINT rpa_write")


@contextmanager
def in_utf8(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """In a transaction: text is sent as UTF-8 in here, whatever the client's encoding is. An error undoes that too."""
    given = reported(connection, "client_encoding")
    if given is None or given == "UTF8":
        yield
        return
    _set_encoding(connection, "UTF8")
    yield
    _set_encoding(connection, given)


def _set_encoding(connection: psycopg.Connection[Any], name: str) -> None:
    # In bytes, and answered with a number: the driver may not know how to decode the encoding that is set now.
    query = f"SELECT 1 FROM set_config('client_encoding', '{name}', true)".encode()  # noqa: S608 - a name of the server's
    if is_pipelined(connection):
        with connection.pipeline():  # its end synchronizes: only then does the server report what is set
            cursor_of(connection).execute(query)
    else:
        cursor_of(connection).execute(query).fetchone()
    if reported(connection, "client_encoding") != name:
        raise UsageError(f"the connection's client_encoding cannot be set to {name}: connect with client_encoding=UTF8")
