"""Back to an empty database, quickly: all tables truncated at once, closed periods dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, sql

from rpa_core.errors import UsageError
from rpa_core.store.connect import connect
from rpa_core.store.retention import drop_expired

_KEPT = ("period", "migration")  # what a migrated, empty ledger has
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> ALL (%s) ORDER BY 1, 2
"""
_SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relkind = 'S'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')) ORDER BY 1, 2
"""


def empty(dsn: str, schemas: Sequence[str], *, lock_s: float) -> None:
    """Locks: ACCESS EXCLUSIVE on every table that is emptied; waits `lock_s` for it."""
    with connect(dsn, application_name="rpa-testkit data") as connection:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{lock_s}s",))
                _truncate(connection, schemas)
        except errors.LockNotAvailable as error:
            raise UsageError(
                f"the database cannot be emptied: somebody has worked in it for {lock_s:g} s; stop the workers first"
            ) from error
        if "rpa" in schemas:
            drop_expired(connection, retention_days=0.0)
            connection.commit()


def _truncate(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> None:
    tables = connection.execute(_TABLES, (list(schemas), list(_KEPT))).fetchall()
    if tables:
        names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))
    for sequence in connection.execute(_SEQUENCES, (list(schemas),)).fetchall():
        connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(*sequence)))
