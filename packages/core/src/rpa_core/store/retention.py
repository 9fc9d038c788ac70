"""Old results leave with their period: whole partitions are dropped, never rows deleted.

The database does both under its owner's rights (`rpa.rotate_if_due`, `rpa.drop_if_finished`), so that a worker needs
no more than the right to call them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

logger = logging.getLogger("rpa.store")
_REQUESTS = 5000
_DAY_S = 86400
_PERIODS = """
SELECT p.id, p.opened_at, p.closed_at,
       p.closed_at < clock_timestamp() - make_interval(secs => %(retention_s)s) AS expired,
       p.closed_at IS NULL AND p.opened_at < clock_timestamp() - make_interval(secs => %(period_s)s) AS due,
       EXISTS (SELECT FROM rpa.chunk c WHERE c.period = p.id) AS unfinished,
       EXISTS (SELECT FROM rpa.dead_letter d WHERE d.period = p.id AND d.discarded IS NULL) AS dead
FROM rpa.period p WHERE NOT %(expired_only)s OR p.closed_at < clock_timestamp() - make_interval(secs => %(retention_s)s)
ORDER BY p.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodState:
    """One period. `expired`: closed longer ago than the retention. `due`: open for longer than a period is to be.

    An expired period is dropped unless it holds records that are `unfinished`, or dead letters (`dead`).
    """

    id: int
    opened_at: datetime
    closed_at: datetime | None
    expired: bool
    due: bool
    unfinished: bool
    dead: bool


@contextmanager
def _read_committed(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction in which each statement sees what committed before it, whatever the role's default is."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
        yield


def rotate(connection: psycopg.Connection[Any], *, period_days: float) -> int | None:
    """Open a new period if the open one is old enough; returns its id.

    Waits at most 0.3 s for running enqueues, which wait behind it meanwhile; where that is not enough, a later call
    tries again.
    """
    with _read_committed(connection):
        row = connection.execute(
            "SELECT rpa.rotate_if_due(make_interval(secs => %s))", (period_days * _DAY_S,)
        ).fetchone()
    if row is None or row[0] is None:
        return None
    logger.info("opened period %d", row[0], extra={"event.action": "period.opened"})
    return int(row[0])


def drop_expired(connection: psycopg.Connection[Any], *, retention_days: float) -> list[int]:
    """Drop periods that closed longer ago than `retention_days` and are finished; returns their ids.

    A period with an unfinished chunk, or a dead letter that was not discarded, is kept: nothing that still wants
    attention is lost.
    """
    rows = connection.execute(
        "SELECT id FROM rpa.period WHERE closed_at < clock_timestamp() - make_interval(secs => %s) ORDER BY id",
        (retention_days * _DAY_S,),
    ).fetchall()
    return [period for (period,) in rows if _drop(connection, period, retention_days)]


def _drop(connection: psycopg.Connection[Any], period: int, retention_days: float) -> bool:
    with _read_committed(connection):
        row = connection.execute(
            "SELECT rpa.drop_if_finished(%s, make_interval(secs => %s))", (period, retention_days * _DAY_S)
        ).fetchone()
    if row is None or not row[0]:
        return False
    logger.info("dropped period %d", period, extra={"event.action": "period.dropped"})
    return True


def forget_requests(connection: psycopg.Connection[Any], *, retention_days: float) -> int:
    """Delete remembered idempotency keys past the retention, 5,000 at the most; returns how many."""
    return connection.execute(
        "DELETE FROM rpa.request WHERE ctid = ANY(ARRAY(SELECT ctid FROM rpa.request"
        " WHERE at < statement_timestamp() - make_interval(secs => %s) ORDER BY at LIMIT %s))",
        (retention_days * _DAY_S, _REQUESTS),
    ).rowcount


def keep_house(connection: psycopg.Connection[Any], *, period_days: float, retention_days: float) -> Sequence[int]:
    """All of it, once; any worker may call it at any time."""
    rotate(connection, period_days=period_days)
    forget_requests(connection, retention_days=retention_days)
    return drop_expired(connection, retention_days=retention_days)


def periods(
    connection: psycopg.Connection[Any], *, period_days: float, retention_days: float, expired_only: bool = False
) -> list[PeriodState]:
    """Every period, or the expired ones that are still there, and what keeps them."""
    parameters = {
        "period_s": period_days * _DAY_S,
        "retention_s": retention_days * _DAY_S,
        "expired_only": expired_only,
    }
    with connection.cursor(binary=True) as cursor:
        return [
            PeriodState(
                id=number,
                opened_at=opened_at,
                closed_at=closed_at,
                expired=bool(expired),
                due=bool(due),
                unfinished=unfinished,
                dead=dead,
            )
            for number, opened_at, closed_at, expired, due, unfinished, dead in cursor.execute(_PERIODS, parameters)
        ]
