"""Forward-only migrations: numbered plain SQL files, applied once, under one advisory lock, beside running workers.

A file may hold the line `-- compatible from: NNNN`: code that knows the migrations up to NNNN can work on the schema
that this one makes. Without it, only code that has the file can. So workers are replaced one by one: migrate first,
then start the new ones; the old ones warn about the newer schema and go on.

Each file is one transaction. It waits at most half a second for a lock, because everything queues behind one that
waits for a table; then it is undone and tried again, until its patience ends.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from typing import Any, Literal

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from rpa_core.errors import SchemaError, StoreRefused, StoreUnavailable
from rpa_core.store.connect import check_encoding, classify, connect
from rpa_core.waits import pause

logger = logging.getLogger("rpa.migrate")
PATIENCE_S = 600.0
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_COMPATIBLE = re.compile(rb"^-- compatible from: (\d{4})\s*$", re.MULTILINE)
_MAKES_SCHEMA = re.compile(rb"^CREATE SCHEMA IF NOT EXISTS ([a-z_][a-z0-9_]*);\s*$", re.MULTILINE)
OWN = "rpa_core"
_LOCK = 7499873, 2
_LOCK_TIMEOUT = "500ms"
_AGAIN_S = 2.0
_TABLE = """
CREATE TABLE IF NOT EXISTS rpa.migration (
    namespace       text        NOT NULL,
    number          integer     NOT NULL,
    name            text        NOT NULL,
    sha256          text        NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now(),
    compatible_from integer,
    PRIMARY KEY (namespace, number)
)
"""
# By way of JSON, because the column is missing where only an earlier version has migrated. The time in seconds: its
# text would depend on DateStyle.
_APPLIED = """
SELECT number, name, sha256, extract(epoch FROM applied_at)::float8 AS applied_s,
       (to_jsonb(m)->>'compatible_from')::integer AS compatible_from
FROM rpa.migration m WHERE namespace = %s ORDER BY number
"""
_IN_THE_WAY = """
SELECT format('process %s (%s, %s), in a transaction for %s s', a.pid, coalesce(nullif(a.application_name, ''), '-'),
              a.usename, extract(epoch FROM clock_timestamp() - a.xact_start)::integer)
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relnamespace = 'rpa'::regnamespace AND a.xact_start IS NOT NULL
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start LIMIT 1
"""
MigrationState = Literal["applied", "missing", "changed", "newer", "newer_compatible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """One migration of this package or of the database, and when the database got it (None: not yet).

    missing           the package has it, the database does not.
    changed           the file is not the one that was applied.
    newer             the database has it, this version does not know it and cannot work with it.
    newer_compatible  the same, but it was declared to leave older versions working.
    """

    namespace: str
    number: int
    name: str
    applied_at: datetime | None
    state: MigrationState

    @property
    def label(self) -> str:
        """`0001_ledger`."""
        return f"{self.number:04d}_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    number: int
    name: str
    sha256: str
    applied_s: float
    compatible_from: int | None


def _files(package: str) -> list[tuple[int, str, bytes]]:
    return sorted(
        (int(match[1]), match[2], entry.read_bytes())
        for entry in resources.files(package).iterdir()
        if (match := _FILE.match(entry.name))
    )


def migrate(dsn: str, *, patience_s: float = PATIENCE_S) -> list[str]:
    """Bring the ledger's database up to date; returns the names of what was applied. Safe to run at any time."""
    return migrate_package(dsn, package="rpa_core.store.migrations", namespace=OWN, patience_s=patience_s)


def migrate_package(
    dsn: str, *, package: str, namespace: str, patience_s: float = PATIENCE_S, stop: threading.Event | None = None
) -> list[str]:
    """Apply the `NNNN_name.sql` files of `package` that this database has not had; a second process waits.

    Where nothing is missing, reading `rpa.migration` is all the right that is needed. Raises SchemaError if an applied
    file was changed since, or the database is newer than this package and not compatible with it; StoreRefused for a
    missing privilege; StoreUnavailable if other transactions kept a lock for `patience_s` seconds, or until `stop`.
    """
    locks = _Locks(patience_s, stop or threading.Event())
    with connect(dsn, application_name="rpa migrate") as connection:
        check_encoding(connection)
        try:
            pending = _pending(connection, package, namespace)
            if not pending:
                return []
            locks.apply(connection, "the table of migrations", lambda: _prepare(connection))
            applied = [
                f"{number:04d}_{name}"
                for number, name, text in pending
                if locks.apply(
                    connection,
                    f"migration {number:04d}_{name}",
                    partial(_apply, connection, namespace, number, name, text),
                )
            ]
        except errors.InsufficientPrivilege as error:
            raise StoreRefused(_missing_privilege(connection, error)) from error
        except psycopg.Error as error:
            raise classify(error) from error
    return applied


def _pending(connection: psycopg.Connection[Any], package: str, namespace: str) -> list[tuple[int, str, bytes]]:
    applied = {row.number: row for row in _applied(connection, namespace)}
    files = _files(package)
    newest = max((number for number, _, _ in files), default=0)
    for number, row in applied.items():
        ours = next((text for n, _, text in files if n == number), None)
        if ours is None and row.compatible_from is not None and row.compatible_from <= newest:
            continue
        if ours is None:
            raise SchemaError(
                f"the database has migration {number:04d}_{row.name} of {namespace}, which this version does not "
                "know: run a version at least as new as the database"
            )
        if hashlib.sha256(ours).hexdigest() != row.sha256:
            raise SchemaError(
                f"migration {number:04d}_{row.name} of {namespace} was changed after it was applied: restore the "
                "file and put the change into a new migration"
            )
    return [entry for entry in files if entry[0] not in applied]


class _Locks:
    """Transactions that wait only briefly for locks, and are tried again until `patience_s` is over or `stop` set."""

    def __init__(self, patience_s: float, stop: threading.Event) -> None:
        self._patience_s = patience_s
        self._stop = stop

    def apply(self, connection: psycopg.Connection[Any], what: str, act: Callable[[], bool]) -> bool:
        """Do it in one transaction, alone among all that migrate; returns its answer."""
        until = time.monotonic() + self._patience_s
        while True:
            try:
                with connection.transaction():
                    # Each statement must see what committed while the lock was waited for.
                    connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
                    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
                    connection.execute(
                        "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true)",
                        (_LOCK_TIMEOUT,),
                    )
                    return act()
            except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
                blocker = connection.execute(_IN_THE_WAY).fetchone()
                who = f"; in the way: {blocker[0]}" if blocker else ""
                if time.monotonic() >= until or self._stop.is_set():
                    raise StoreUnavailable(
                        f"{what} got no lock within {self._patience_s:g} s{who}; nothing of it was applied: end that "
                        "transaction, or try again later"
                    ) from error
                logger.warning(
                    "%s waits for a lock and is tried again%s", what, who, extra={"event.action": "migration.waits"}
                )
                pause(self._stop, _AGAIN_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not secrecy


def _prepare(connection: psycopg.Connection[Any]) -> bool:
    """The table of migrations, with its newest column. Nothing that is there is created again: that needs rights."""
    if not _yes(connection, "SELECT to_regnamespace('rpa') IS NOT NULL"):
        connection.execute("CREATE SCHEMA rpa")
    if not _yes(connection, "SELECT to_regclass('rpa.migration') IS NOT NULL"):
        connection.execute(_TABLE)
    elif not _yes(
        connection,
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rpa.migration'::regclass"
        " AND attname = 'compatible_from' AND NOT attisdropped)",
    ):
        _act_as_owner(connection)
        connection.execute("ALTER TABLE rpa.migration ADD COLUMN compatible_from integer")
    return True


def _apply(connection: psycopg.Connection[Any], namespace: str, number: int, name: str, text: bytes) -> bool:
    """Apply one file; False if another process did."""
    if number in {row.number for row in _applied(connection, namespace)}:
        return False
    if namespace == "rpa_core":
        _act_as_owner(connection)
    connection.execute(_without_schemas_there(connection, text))
    declared = _COMPATIBLE.search(text)
    connection.execute(
        "INSERT INTO rpa.migration (namespace, number, name, sha256, compatible_from) VALUES (%s, %s, %s, %s, %s)",
        (namespace, number, name, hashlib.sha256(text).hexdigest(), int(declared[1]) if declared else None),
    )
    logger.info("applied %04d_%s", number, name, extra={"event.action": "migration.applied"})
    return True


def _act_as_owner(connection: psycopg.Connection[Any]) -> None:
    """Until the transaction's end: what a superuser makes here belongs to the role that owns what is here already."""
    row = connection.execute(
        "SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner"
        " WHERE c.oid = 'rpa.migration'::regclass AND r.rolname <> current_user"
        " AND pg_has_role(current_user, r.oid, 'MEMBER')"
    ).fetchone()
    if row:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(row[0])))


def _without_schemas_there(connection: psycopg.Connection[Any], text: bytes) -> bytes:
    """PostgreSQL asks for the right to create a schema also where it exists."""
    for name in {found[1] for found in _MAKES_SCHEMA.finditer(text)}:
        if _yes(connection, "SELECT to_regnamespace(%s) IS NOT NULL", name.decode()):
            text = re.sub(rb"^CREATE SCHEMA IF NOT EXISTS " + name + rb";\s*$", b"", text, flags=re.MULTILINE)
    return text


def _missing_privilege(connection: psycopg.Connection[Any], error: errors.InsufficientPrivilege) -> str:
    """Which right is missing, and what an administrator runs."""
    cause = str(error).splitlines()[0]
    role, database = (
        sql.Identifier(name).as_string(connection) for name in (connection.info.user, connection.info.dbname)
    )
    if not _yes(connection, "SELECT to_regnamespace('rpa') IS NOT NULL"):
        return (
            f"PostgreSQL refused: {cause}: the schema rpa is missing, and this role may not create it. Run "
            f"`CREATE SCHEMA rpa AUTHORIZATION {role}` or `GRANT CREATE ON DATABASE {database} TO {role}` as an "
            "administrator"
        )
    row = connection.execute(
        "SELECT r.rolname FROM pg_namespace n"
        " LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'migration' AND c.relkind = 'r'"
        " JOIN pg_roles r ON r.oid = coalesce(c.relowner, n.nspowner) WHERE n.nspname = 'rpa'"
    ).fetchone()
    owner = row[0] if row else "unknown"
    return (
        f"PostgreSQL refused: {cause}: migrations are applied by the owner of schema rpa, which is {owner}: run "
        "`rpa db migrate` as that role or a member of it"
    )


def _yes(connection: psycopg.Connection[Any], query: str, *parameters: Any) -> bool:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return bool(row and row[0])


def _applied(connection: psycopg.Connection[Any], namespace: str) -> list[_Applied]:
    if not _yes(connection, "SELECT to_regclass('rpa.migration') IS NOT NULL"):
        return []
    with connection.cursor(row_factory=class_row(_Applied)) as cursor:
        return cursor.execute(_APPLIED, (namespace,)).fetchall()


def status(dsn: str, *, package: str = "rpa_core.store.migrations", namespace: str = OWN) -> list[MigrationStatus]:
    """Every migration of the package or the database, in order, with the time this database got it."""
    with connect(dsn, application_name="rpa migrate") as connection:
        check_encoding(connection)
        try:
            applied = {row.number: row for row in _applied(connection, namespace)}
        except psycopg.Error as error:
            raise classify(error) from error
    files = {number: (name, text) for number, name, text in _files(package)}
    newest = max(files, default=0)
    return [
        MigrationStatus(
            namespace=namespace,
            number=number,
            name=files[number][0] if number in files else applied[number].name,
            applied_at=datetime.fromtimestamp(applied[number].applied_s, UTC) if number in applied else None,
            state=_state(files.get(number), applied.get(number), newest),
        )
        for number in sorted(files | applied)
    ]


def _state(file: tuple[str, bytes] | None, applied: _Applied | None, newest: int) -> MigrationState:
    if applied is None:
        return "missing"
    if file is not None:
        return "applied" if hashlib.sha256(file[1]).hexdigest() == applied.sha256 else "changed"
    if applied.compatible_from is not None and applied.compatible_from <= newest:
        return "newer_compatible"
    return "newer"
