"""Connections to PostgreSQL, and the one table that tells what an error of its means."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.types.string import ByteaBinaryLoader
from psycopg_pool import ConnectionPool

from rpa_core.errors import RpaError, SchemaError, StoreRefused, StoreUnavailable

_REFUSED = {
    "28P01": "wrong password: correct the password of this role or the secret it is read from",
    "28000": "this role may not log in from here: correct the user name, or pg_hba.conf",
    "3D000": "no such database: create it, or correct the name in the URL",
    "42501": "missing privilege: grant it to this role",
}
_SCHEMA = {
    "42P01": "a table is missing: run `rpa db migrate`",
    "3F000": "the schema is missing: run `rpa db migrate`",
    "42883": "a function is missing: run `rpa db migrate`",
    "42703": "a column is missing: run `rpa db migrate`",
}
# Whole classes: connection lost (08), resources (53), operator intervention (57), system (58); and what a retry
# of the same transaction cures: serialization, deadlock, an unknown end, lock timeout, a server that is read-only for
# now. What has the severity FATAL has ended the session, whatever its code: 25P03 and 25P04 are timeouts of the role.
_TRANSIENT_CLASSES = ("08", "53", "57", "58")
_TRANSIENT = {"40001", "40003", "40P01", "55P03", "25006", "25P03", "25P04"}
_SESSION_ENDED = ("FATAL", "PANIC")
_PUT_RIGHT = "RPA01"  # raised by our own functions; the message says what to run
_BEHIND = re.compile(r"(chunk|record_p\d+|chunk_done_p\d+)_pkey")  # ids come from sequences: a clash is no coincidence
_READ_ONLY = (
    "writing is refused: default_transaction_read_only is on, set by the role, the database or the server, and the "
    "server is not in recovery: ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only"
)
# The pool's own backoff doubles up to this; beyond it the next caller tries anew, so that a long outage is not
# followed by a long wait.
_RECONNECT_S = 2.0
# libpq reports these before there is a SQLSTATE; the server's own words are all there is.
_REFUSED_TEXT = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "is not permitted to log in",
    "permission denied for database",
)
# What a server says that is away for now. Everything else that it says may be in another language (lc_messages).
_AWAY_TEXT = (
    "starting up",
    "shutting down",
    "not yet accepting",
    "recovery",
    "too many",
    "connection slots",
    "terminating",
)
_SERVER_SAID = re.compile(r"(?:^|\s)[^\s:]+:  ")  # the severity, in its language, and two spaces: so libpq shows it
_STATE = re.compile(rb'\tErrorResponse\t.*? C "(\w{5})"')
_ASK_S = 5.0


def connect(
    dsn: str, *, autocommit: bool = True, application_name: str = "rpa", connect_timeout_s: float = 5
) -> psycopg.Connection[Any]:
    """Open one connection; JSON columns come as bytes when read in binary.

    No statement is prepared on the server and no session setting is made, so that PgBouncer in transaction mode
    may stand between. Raises `StoreUnavailable` or `StoreRefused`.
    """
    options = connection_options(application_name, connect_timeout_s)
    with translated():
        connection = psycopg.connect(dsn, autocommit=autocommit, prepare_threshold=None, **options)
    prepare(connection)
    return connection


@contextmanager
def translated() -> Iterator[None]:
    """Around an attempt to connect: the driver's and the machine's errors become RpaErrors, as `classify` has it."""
    try:
        yield
    except psycopg.Error as error:
        raise classify(error) from error
    except OSError as error:  # psycopg needs descriptors of its own, and there may be none left
        raise StoreUnavailable(f"PostgreSQL cannot be reached: {error}") from error


def connection_options(application_name: str, connect_timeout_s: float) -> dict[str, Any]:
    """Text is UTF-8, whatever the environment, the URL or the role says; a dead peer is noticed within about 20 s."""
    return {
        "application_name": application_name,
        "client_encoding": "UTF8",
        "connect_timeout": max(2, round(connect_timeout_s)),
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Read json as its bytes: it is decoded once, where it is needed."""
    connection.adapters.register_loader("json", ByteaBinaryLoader)


def pool_options(*, min_size: int = 0, max_size: int, timeout_s: float, application_name: str) -> dict[str, Any]:
    """How pools are made here."""
    return {
        "min_size": min_size,
        "max_size": max_size,
        "timeout": timeout_s,
        "open": True,
        "max_lifetime": 1800,
        "max_idle": 120,
        "reconnect_timeout": _RECONNECT_S,
        "check": ConnectionPool.check_connection,
        "configure": prepare,
        "kwargs": {"prepare_threshold": None, **connection_options(application_name, timeout_s)},
        "name": application_name,
    }


def reported(connection: psycopg.Connection[Any], name: str) -> str | None:
    """A setting that the server reports by itself; None where it, or a pooler before it, does not."""
    value = connection.pgconn.parameter_status(name.encode())
    return value.decode("ascii", "replace") if value is not None else None


def check_encoding(connection: psycopg.Connection[Any]) -> None:
    """Raise SchemaError for a database that does not keep text as UTF-8: not every text could be kept as it is."""
    encoding = reported(connection, "server_encoding") or "UTF8"
    if encoding != "UTF8":
        raise SchemaError(
            f"database {connection.info.dbname!r} has the encoding {encoding}, and rpa needs UTF8: make another by "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move the data with pg_dump"
        )


def classify(error: psycopg.Error, connection: psycopg.Connection[Any] | None = None) -> RpaError:
    """What this error means for us: away for now, refused for good, an old schema, or a defect.

    `connection` is where it happened, and says what the error does not. Source of the codes: PostgreSQL's appendix A,
    "PostgreSQL Error Codes".
    """
    state = error.sqlstate or ""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if (wrong := to_put_right(error)) is not None:
        return wrong
    if state in _REFUSED:
        return StoreRefused(f"PostgreSQL refused: {said} ({_REFUSED[state]})")
    if state in _SCHEMA:
        return SchemaError(f"PostgreSQL: {said} ({_SCHEMA[state]})")
    if state == "25006" and connection is not None and _is_set_read_only(connection):
        return StoreRefused(f"PostgreSQL: {_READ_ONLY}")
    if not state and any(text in str(error) for text in _REFUSED_TEXT):
        return StoreRefused(f"PostgreSQL refused: {said}")
    if not state and _state_of_attempt(error) in _REFUSED:
        return StoreRefused(f"PostgreSQL refused: {said}")
    if state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT or error.diag.severity_nonlocalized in _SESSION_ENDED:
        return StoreUnavailable(f"PostgreSQL is not available: {said}")
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"PostgreSQL cannot be reached: {said}")
    return RpaError(f"PostgreSQL: {said} [{state}]")


def to_put_right(error: psycopg.Error) -> SchemaError | None:
    """What has to be put right in the database before this can go well, if that is what the error says."""
    if error.sqlstate == _PUT_RIGHT:
        return SchemaError(f"PostgreSQL: {error.diag.message_primary}")
    if (
        error.sqlstate == "23505"
        and error.diag.schema_name == "rpa"
        and _BEHIND.fullmatch(error.diag.constraint_name or "")
    ):
        return SchemaError(
            f"PostgreSQL: {error.diag.message_primary}: a sequence is behind its table (logical replication and "
            "data-only copies carry no sequences); run `rpa db repair-sequences`"
        )
    return None


def _is_set_read_only(connection: psycopg.Connection[Any]) -> bool:
    """Whether transactions are read-only by a setting, and not because the server is a standby."""
    if connection.closed:
        return False
    return (
        reported(connection, "default_transaction_read_only") == "on"
        and reported(connection, "in_hot_standby") == "off"
    )


def spoken_by_server(error: Exception) -> bool:
    """Whether an error of a connection attempt was said by a server, and not found out about the way to it."""
    return _SERVER_SAID.search(str(error)) is not None


def _state_of_attempt(error: psycopg.Error) -> str:
    """The SQLSTATE of a connection attempt that a server ended in words that are not known here; else nothing.

    libpq keeps the words alone. It is asked to connect once more, and writes down what the server answers.
    """
    if error.pgconn is None or not hasattr(os, "memfd_create"):
        return ""
    if not spoken_by_server(error) or any(text in str(error) for text in _AWAY_TEXT):
        return ""
    options = {one.keyword.decode(): one.val.decode() for one in error.pgconn.info if one.val}
    trace = os.memfd_create("rpa connect")  # it holds what was sent, too, and is gone with this call
    try:
        attempt = pq.PGconn.connect_start(make_conninfo("", **options).encode())
        try:
            attempt.trace(trace)
            _attempt(attempt)
            attempt.untrace()
        finally:
            attempt.finish()
        found = _STATE.search(os.pread(trace, 1024 * 1024, 0))
    except psycopg.Error:
        return ""
    finally:
        os.close(trace)
    return found[1].decode() if found else ""


def _attempt(attempt: pq.abc.PGconn) -> None:
    """Go on with an attempt until it has succeeded or failed, or takes too long."""
    deadline = time.monotonic() + _ASK_S
    status: int = pq.PollingStatus.WRITING
    while status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING) and time.monotonic() < deadline:
        reading = status == pq.PollingStatus.READING
        sockets = [attempt.socket]
        if any(select.select(sockets if reading else [], [] if reading else sockets, [], _ASK_S)):
            status = attempt.connect_poll()


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(classify(error), StoreUnavailable)
