"""Old results leave with their period: whole partitions are dropped, never rows deleted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, sql

logger = logging.getLogger("rpa.store")
_PARTITIONED = ("dead_letter", "chunk_done", "result", "record")
_LOCK_TIMEOUT = "300ms"
_REQUESTS = 5000


def rotate(connection: psycopg.Connection[Any], *, period_days: float) -> int | None:
    """Open a new period if the open one is old enough; returns its id.

    Waits at most 0.3 s for running enqueues, who wait behind it meanwhile; where that is not enough, a later call
    tries again.
    """
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            old = connection.execute(
                "SELECT 1 FROM rpa.period WHERE closed_at IS NULL"
                " AND opened_at < clock_timestamp() - make_interval(secs => %s)",
                (period_days * 86400,),
            ).fetchone()
            if not old:
                return None
            row = connection.execute("SELECT rpa.rotate_period()").fetchone()
    except errors.LockNotAvailable:
        return None
    assert row is not None
    logger.info("opened period %d", row[0], extra={"event.action": "period.opened"})
    return int(row[0])


def drop_expired(connection: psycopg.Connection[Any], *, retention_days: float) -> list[int]:
    """Drop periods that closed longer ago than `retention_days` and are finished; returns their ids.

    A period with an unfinished chunk or a dead letter is kept: nothing that still wants attention is lost.
    """
    rows = connection.execute(
        "SELECT id FROM rpa.period WHERE closed_at < clock_timestamp() - make_interval(secs => %s) ORDER BY id",
        (retention_days * 86400,),
    ).fetchall()
    return [period for (period,) in rows if _drop(connection, period)]


def _drop(connection: psycopg.Connection[Any], period: int) -> bool:
    tables = [sql.Identifier("rpa", f"{parent}_p{period}") for parent in _PARTITIONED]
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            for table in tables:
                connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
            if _wanted(connection, period):
                return False
            for table in tables:
                connection.execute(sql.SQL("DROP TABLE {}").format(table))
            connection.execute("DELETE FROM rpa.period WHERE id = %s", (period,))
    except errors.LockNotAvailable:
        return False
    logger.info("dropped period %d", period, extra={"event.action": "period.dropped"})
    return True


def _wanted(connection: psycopg.Connection[Any], period: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM rpa.chunk WHERE period = %(period)s)"
        " OR EXISTS (SELECT FROM rpa.dead_letter WHERE period = %(period)s)",
        {"period": period},
    ).fetchone()
    return bool(row and row[0])


def forget_requests(connection: psycopg.Connection[Any], *, retention_days: float) -> int:
    """Delete remembered idempotency keys past the retention, 5,000 at the most; returns how many."""
    return connection.execute(
        "DELETE FROM rpa.request WHERE ctid = ANY(ARRAY(SELECT ctid FROM rpa.request"
        " WHERE at < statement_timestamp() - make_interval(secs => %s) ORDER BY at LIMIT %s))",
        (retention_days * 86400, _REQUESTS),
    ).rowcount


def keep_house(connection: psycopg.Connection[Any], *, period_days: float, retention_days: float) -> Sequence[int]:
    """All of it, once; any worker may call it at any time."""
    rotate(connection, period_days=period_days)
    forget_requests(connection, retention_days=retention_days)
    return drop_expired(connection, retention_days=retention_days)
