"""Forward-only migrations: numbered plain SQL files, applied once, under one advisory lock."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import class_row

from rpa_core.errors import SchemaError
from rpa_core.store.connect import classify, connect

_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_LOCK = 7499873, 2
_LEDGER = """
CREATE SCHEMA IF NOT EXISTS rpa;
CREATE TABLE IF NOT EXISTS rpa.migration (
    namespace  text        NOT NULL,
    number     integer     NOT NULL,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, number)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """One migration: what the package carries, and when this database got it (None: not yet)."""

    namespace: str
    number: int
    name: str
    applied_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    number: int
    name: str
    sha256: str
    applied_at: datetime


def _files(package: str) -> list[tuple[int, str, bytes]]:
    return sorted(
        (int(match[1]), match[2], entry.read_bytes())
        for entry in resources.files(package).iterdir()
        if (match := _FILE.match(entry.name))
    )


def migrate(dsn: str) -> list[str]:
    """Bring the ledger's database up to date; returns the names of what was applied. Safe to run at any time."""
    return migrate_package(dsn, package="rpa_core.store.migrations", namespace="rpa_core")


def migrate_package(dsn: str, *, package: str, namespace: str) -> list[str]:
    """Apply the `NNNN_name.sql` files of `package` that this database has not had.

    Each file runs in a transaction of its own with its entry in `rpa.migration`; whoever comes second waits.
    Raises SchemaError if an applied file was changed since, or the database is newer than this package.
    """
    applied: list[str] = []
    with connect(dsn, application_name="rpa migrate") as connection:
        try:
            for number, name, text in _pending(connection, package, namespace):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
                    if number in {row.number for row in _applied(connection, namespace)}:
                        continue
                    connection.execute(text)
                    connection.execute(
                        "INSERT INTO rpa.migration (namespace, number, name, sha256) VALUES (%s, %s, %s, %s)",
                        (namespace, number, name, hashlib.sha256(text).hexdigest()),
                    )
                applied.append(f"{number:04d}_{name}")
        except psycopg.Error as error:
            raise classify(error) from error
    return applied


def _pending(connection: psycopg.Connection[Any], package: str, namespace: str) -> list[tuple[int, str, bytes]]:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
        connection.execute(_LEDGER)
        applied = {row.number: row for row in _applied(connection, namespace)}
    files = _files(package)
    for number, row in applied.items():
        ours = next((text for n, _, text in files if n == number), None)
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


def _applied(connection: psycopg.Connection[Any], namespace: str) -> list[_Applied]:
    with connection.cursor(row_factory=class_row(_Applied)) as cursor:
        return cursor.execute(
            "SELECT number, name, sha256, applied_at FROM rpa.migration WHERE namespace = %s ORDER BY number",
            (namespace,),
        ).fetchall()


def status(
    dsn: str, *, package: str = "rpa_core.store.migrations", namespace: str = "rpa_core"
) -> list[MigrationStatus]:
    """Every migration the package carries, with the time this database got it."""
    with connect(dsn, application_name="rpa migrate") as connection:
        (exists,) = connection.execute("SELECT to_regclass('rpa.migration') IS NOT NULL").fetchone() or (False,)
        applied = {row.number: row.applied_at for row in _applied(connection, namespace)} if exists else {}
    return [
        MigrationStatus(namespace=namespace, number=number, name=name, applied_at=applied.get(number))
        for number, name, _ in _files(package)
    ]
