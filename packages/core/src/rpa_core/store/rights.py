"""What each kind of role needs in rpa_db, as data: to print it, to grant it, and to see what is missing.

A right on a partitioned table reaches its partitions, also those that later rotations attach, because every statement
goes through the parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import psycopg
from psycopg import errors, sql

from rpa_core.errors import StoreRefused, UsageError
from rpa_core.store.connect import classify

Purpose = Literal["worker", "enqueue", "operate", "read"]
PURPOSES: Sequence[Purpose] = get_args(Purpose)
_MAX_ROLE_BYTES = 63  # PostgreSQL cuts longer names, and the grant would go to another role


class Right(NamedTuple):
    """Privileges on one table, on some of its `columns` only, or on one sequence or function."""

    kind: Literal["TABLE", "SEQUENCE", "FUNCTION"]
    name: str
    privileges: tuple[str, ...]
    columns: tuple[str, ...] = ()


def _table(name: str, *privileges: str, columns: Sequence[str] = ()) -> Right:
    return Right("TABLE", name, privileges, tuple(columns))


_ENQUEUE_FUNCTIONS = (
    Right("FUNCTION", "flow_id(text)", ("EXECUTE",)),
    Right("FUNCTION", "open_period()", ("EXECUTE",)),
    Right("FUNCTION", "open_period_of_snapshot()", ("EXECUTE",)),
    Right("FUNCTION", "new_block(integer)", ("EXECUTE",)),
    Right("FUNCTION", "enqueue(text, text[], text[], boolean)", ("EXECUTE",)),
)
# Keys can be compared with those that are known; no payload, result or reason can be read.
_ENQUEUE = (
    _table("flow", "SELECT"),
    _table("flow", "INSERT", columns=("id", "name")),
    _table("period", "SELECT"),
    _table("record", "INSERT"),
    _table("record", "SELECT", columns=("id", "period", "flow", "key")),
    _table("chunk", "INSERT"),
    _table("dead_letter", "INSERT"),
    Right("SEQUENCE", "record_block", ("USAGE", "SELECT")),
    *_ENQUEUE_FUNCTIONS,
)
_READ_TABLES = (
    "flow",
    "period",
    "record",
    "result",
    "dead_letter",
    "chunk",
    "chunk_done",
    "migration",
    "dead_letter_act",
    "correction",
)
_READ = (
    Right("FUNCTION", "sequence_positions()", ("EXECUTE",)),
    *(_table(name, "SELECT") for name in _READ_TABLES),
)
_WORKER = (
    *_READ,
    _table("flow", "INSERT", columns=("id", "name")),
    _table("record", "INSERT"),
    _table("result", "INSERT"),
    _table("dead_letter", "INSERT"),
    _table("chunk", "INSERT", "UPDATE", "DELETE"),
    _table("chunk_done", "INSERT", "UPDATE"),
    _table("request", "SELECT", "INSERT", "UPDATE", "DELETE"),
    Right("SEQUENCE", "record_block", ("USAGE", "SELECT")),
    *_ENQUEUE_FUNCTIONS,
    Right("FUNCTION", "rotate_if_due(interval)", ("EXECUTE",)),
    Right("FUNCTION", "drop_if_finished(integer, interval)", ("EXECUTE",)),
)
# For pausing, retrying, discarding, correcting, loading and enqueueing; not for migrating.
_OPERATE = (
    *_READ,
    _table("flow", "INSERT", columns=("id", "name")),
    _table("flow", "UPDATE", columns=("paused",)),
    _table("record", "INSERT"),
    _table("record", "UPDATE", columns=("payload",)),
    _table("dead_letter", "INSERT", "DELETE"),
    _table("dead_letter", "UPDATE", columns=("discarded",)),
    _table("chunk", "INSERT", "UPDATE"),
    _table("request", "DELETE", "SELECT"),
    _table("dead_letter_act", "INSERT", "UPDATE"),
    _table("correction", "INSERT"),
    Right("SEQUENCE", "record_block", ("USAGE", "SELECT")),
    *_ENQUEUE_FUNCTIONS,
    Right("FUNCTION", "rotate_if_due(interval)", ("EXECUTE",)),
    Right("FUNCTION", "drop_if_finished(integer, interval)", ("EXECUTE",)),
)
RIGHTS: Mapping[Purpose, Sequence[Right]] = {
    "worker": _WORKER,
    "enqueue": _ENQUEUE,
    "operate": _OPERATE,
    "read": _READ,
}


def grants(role: str, purpose: Purpose) -> list[str]:
    """The statements that give `role` what it needs for `purpose`; running them again changes nothing.

    Raises UsageError for a name that is no role's own.
    """
    if not role or "\0" in role or role == "public" or len(role.encode("utf-8", "replace")) > _MAX_ROLE_BYTES:
        raise UsageError(f"{role!r} cannot be granted to: name one role, in 1 to {_MAX_ROLE_BYTES} bytes")
    try:
        to = sql.Identifier(role).as_string()
    except UnicodeError as error:
        raise UsageError(f"{role!r} is not Unicode text") from error
    return [f"GRANT USAGE ON SCHEMA rpa TO {to};", *(f"{_grant(right)} TO {to};" for right in RIGHTS[purpose])]


def _grant(right: Right) -> str:
    columns = f" ({', '.join(right.columns)})" if right.columns else ""
    privileges = ", ".join(f"{privilege}{columns}" for privilege in right.privileges)
    return f"GRANT {privileges} ON {right.kind} rpa.{right.name}"


def grant(connection: psycopg.Connection[Any], role: str, purpose: Purpose) -> None:
    """Run `grants` in one transaction. Raises StoreRefused where the role is missing or this one may not grant."""
    statements = grants(role, purpose)
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())
            left = missing(connection, purpose, role)
    except errors.UndefinedObject as error:
        raise StoreRefused(
            f"PostgreSQL refused: {str(error).splitlines()[0]} (create it first: CREATE ROLE ... LOGIN)"
        ) from error
    except psycopg.Error as error:
        raise classify(error) from error
    if left:  # without a grant option PostgreSQL answers with a warning only
        raise StoreRefused(f"not granted: {', '.join(left)}; run it as the owner of schema rpa")


def missing(connection: psycopg.Connection[Any], purpose: Purpose, role: str | None = None) -> list[str]:
    """Which rights `role` (default: the connection's) lacks for `purpose`, such as `INSERT on rpa.chunk`."""
    who = {"role": role if role is not None else _current_role(connection)}
    has_schema = connection.execute(
        "SELECT has_schema_privilege(%(role)s, to_regnamespace('rpa'), 'USAGE')", who
    ).fetchone()
    if not has_schema or not has_schema[0]:
        return ["USAGE on schema rpa"]
    return [f"{privilege} on rpa.{name}" for privilege, name in _lacking(connection, purpose, who)]


def _lacking(
    connection: psycopg.Connection[Any], purpose: Purpose, who: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for right in RIGHTS[purpose]:
        for privilege in right.privileges:
            held = True
            for column in right.columns or (None,):
                row = connection.execute(
                    _QUESTIONS[right.kind, column is not None],
                    {**who, "name": right.name, "column": column, "privilege": privilege},
                ).fetchone()
                held = held and bool(row and row[0])
            if not held:
                columns = f" ({', '.join(right.columns)})" if right.columns else ""
                yield privilege + columns, right.name


# By oid, found without the right to use the schema; NULL, and so not held, where the object is missing.
_QUESTIONS = {
    ("TABLE", False): (
        "SELECT has_table_privilege(%(role)s, c.oid, %(privilege)s)"
        " FROM pg_class c WHERE c.relnamespace = 'rpa'::regnamespace AND c.relname = %(name)s"
    ),
    ("TABLE", True): (
        "SELECT has_column_privilege(%(role)s, c.oid, %(column)s, %(privilege)s)"
        " FROM pg_class c WHERE c.relnamespace = 'rpa'::regnamespace AND c.relname = %(name)s"
    ),
    ("SEQUENCE", False): (
        "SELECT has_sequence_privilege(%(role)s, c.oid, %(privilege)s)"
        " FROM pg_class c WHERE c.relnamespace = 'rpa'::regnamespace AND c.relname = %(name)s"
    ),
    ("FUNCTION", False): (
        "SELECT has_function_privilege(%(role)s, to_regprocedure('rpa.' || %(name)s), %(privilege)s)"
    ),
}


def _current_role(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT current_user::text").fetchone()
    assert row is not None
    return str(row[0])
