"""Old results leave with their period, as whole partitions, and nothing that still wants attention leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import monotonic
from typing import Any

import psycopg
import pytest

from rpa_core.store import lookup
from rpa_core.store.connect import connect
from rpa_core.store.intake import enqueue, remember_request
from rpa_core.store.ledger import Ledger
from rpa_core.store.retention import drop_expired, forget_requests, keep_house, rotate
from rpa_testkit.databases import Database

from .ledger_steps import FLOW, end, fill, one, open_ledger, records, take

_TABLES = ("record", "result", "dead_letter", "chunk_done")


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The connection that keeps house."""
    with connect(database.dsn) as connection:
        yield connection


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """A worker's ledger."""
    opened = open_ledger(database.dsn)
    yield opened
    opened.close()


def _partitions(connection: psycopg.Connection[Any]) -> set[str]:
    return {
        row[0]
        for row in connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE relkind = 'r'"
        )
    }


def _age(connection: psycopg.Connection[Any], days: int) -> None:
    """Let time pass for every period."""
    connection.execute(
        "UPDATE rpa.period SET opened_at = opened_at - make_interval(days => %(d)s),"
        " closed_at = closed_at - make_interval(days => %(d)s)",
        {"d": days},
    )


@pytest.mark.requirement("R6.2")
def test_a_period_opens_when_the_last_one_is_old(admin: psycopg.Connection[Any]) -> None:
    """Not before its time; then with a partition of each table, and the last one closes."""
    assert rotate(admin, period_days=7) is None
    _age(admin, 8)
    assert rotate(admin, period_days=7) == 2
    assert rotate(admin, period_days=7) is None
    assert _partitions(admin) == {f"rpa.{table}_p{number}" for table in _TABLES for number in (1, 2)}
    assert admin.execute("SELECT id, closed_at IS NULL FROM rpa.period ORDER BY id").fetchall() == [
        (1, False),
        (2, True),
    ]


@pytest.mark.requirement("R6.2", "R3.1")
def test_work_goes_on_across_periods(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """One claim takes chunks of several periods, and each result is kept beside its record."""
    for first in range(3):
        with connect(database.dsn, autocommit=False) as connection:
            enqueue(connection, FLOW, records(4, first=10 * first))
        rotate(admin, period_days=0)
    claim = take(ledger)
    assert {chunk.period for chunk in claim.chunks} == {1, 2, 3}
    assert len(end(ledger, claim)) == 3
    assert admin.execute("SELECT period, count(*) FROM rpa.result GROUP BY 1 ORDER BY 1").fetchall() == [
        (1, 4),
        (2, 4),
        (3, 4),
    ]


@pytest.mark.requirement("R6.2")
def test_finished_periods_are_dropped_whole(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """After the retention the partitions are gone, without a row deleted; keys in them are free again."""
    fill(database.dsn, 50)
    assert end(ledger, take(ledger))
    rotate(admin, period_days=0)
    _age(admin, 29)
    assert drop_expired(admin, retention_days=30) == []
    _age(admin, 2)
    before = _deleted(admin)
    with caplog.at_level(logging.INFO, "rpa.store"):
        assert drop_expired(admin, retention_days=30) == [1]
    assert "dropped period 1" in caplog.text
    assert _deleted(admin) == before
    assert _partitions(admin) == {f"rpa.{table}_p2" for table in _TABLES}
    assert one(admin, "SELECT count(*) FROM rpa.period") == 1
    assert lookup.record_status(admin, FLOW, "k1") is None
    with admin.transaction():
        assert enqueue(admin, FLOW, records(50)) == (50, 0)


def _deleted(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        one(
            connection,
            "SELECT coalesce(sum(n_tup_del), 0) FROM pg_stat_user_tables"
            " WHERE schemaname = 'rpa' AND relname NOT IN ('period', 'chunk')",
        )
    )


@pytest.mark.parametrize("state", ["ready", "leased", "waiting", "dead"])
@pytest.mark.requirement("R8.7", "R3.1")
def test_a_period_with_something_unfinished_stays(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger, state: str
) -> None:
    """A record that is ready, leased, waiting or set aside keeps its period, with all the results in it."""
    fill(database.dsn, 20, chunk_size=10)
    claim = take(ledger, records=10, chunks=1)
    assert end(ledger, claim)
    match state:
        case "leased":
            take(ledger)
        case "waiting":
            end(ledger, take(ledger), retry_s=3600)
        case "dead":
            end(ledger, take(ledger), dead="rejected")
    rotate(admin, period_days=0)
    assert drop_expired(admin, retention_days=0) == []
    assert one(admin, "SELECT count(*) FROM rpa.record") == 20
    if state == "dead":
        lookup.put_back(admin, FLOW)
    elif state == "leased":
        admin.execute("UPDATE rpa.chunk SET state = 'r', lease_id = NULL, lease_until = NULL")
    lookup.requeue(admin, FLOW)
    assert end(ledger, take(ledger))
    assert drop_expired(admin, retention_days=0) == [1]


@pytest.mark.requirement("R6.4", "R6.5")
def test_a_rotation_gives_way_to_a_long_enqueue(database: Database, admin: psycopg.Connection[Any]) -> None:
    """It waits a third of a second, not for the end of the load; later it succeeds, and no enqueue has failed."""
    admin.execute("SELECT rpa.flow_id(%s)", (FLOW,))  # the first use of a flow is a row that others wait for
    with connect(database.dsn, autocommit=False) as long, connect(database.dsn, autocommit=False) as other:
        enqueue(long, FLOW, records(100))
        started = monotonic()
        assert rotate(admin, period_days=0) is None
        assert monotonic() - started < 20
        assert enqueue(other, FLOW, records(100, prefix="other ")) == (100, 0)
        other.commit()
        long.commit()
    assert rotate(admin, period_days=0) == 2
    assert one(admin, "SELECT count(*) FROM rpa.record") == 200


@pytest.mark.requirement("R6.4")
def test_dropping_gives_way_to_a_reader(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """A report that reads an old period is not cut off, and does not hold the housekeeper up."""
    fill(database.dsn, 5)
    assert end(ledger, take(ledger))
    rotate(admin, period_days=0)
    with connect(database.dsn, autocommit=False) as reader:
        assert one(reader, "SELECT count(*) FROM rpa.result") == 5
        started = monotonic()
        assert drop_expired(admin, retention_days=0) == []
        assert monotonic() - started < 20
        assert one(reader, "SELECT count(*) FROM rpa.result") == 5
    assert drop_expired(admin, retention_days=0) == [1]


@pytest.mark.requirement("R8.2", "R6.2")
def test_a_stale_completion_into_a_dropped_period_is_refused(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger
) -> None:
    """A zombie that wakes after its records were finished by another and dropped writes nothing and is told."""
    fill(database.dsn, 5)
    zombie = take(ledger)
    admin.execute("UPDATE rpa.chunk SET lease_until = now() - interval '1 hour'")
    other = ledger.reclaim(records=10, chunks=10)
    assert other is not None
    assert [len(content.records) for content in ledger.read(zombie)] == [5]
    assert end(ledger, other)
    rotate(admin, period_days=0)
    assert drop_expired(admin, retention_days=0) == [1]
    assert end(ledger, zombie) == set()
    assert ledger.settle(zombie) == (set(), set())


@pytest.mark.requirement("R6.2")
def test_house_is_kept_in_one_call(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """Rotation, requests and old periods; calling it again at once does nothing."""
    fill(database.dsn, 5)
    assert end(ledger, take(ledger))
    assert remember_request(admin, FLOW, "request", b"digest") is None
    admin.execute("UPDATE rpa.request SET at = now() - interval '31 days'")
    assert list(keep_house(admin, period_days=0, retention_days=30)) == []
    assert one(admin, "SELECT count(*) FROM rpa.request") == 0
    _age(admin, 31)
    assert list(keep_house(admin, period_days=100, retention_days=30)) == [1]
    assert list(keep_house(admin, period_days=100, retention_days=30)) == []


@pytest.mark.requirement("R6.2")
def test_requests_are_forgotten_in_batches(admin: psycopg.Connection[Any]) -> None:
    """5,000 at the most in one call, the oldest first; younger ones stay."""
    admin.execute(
        "INSERT INTO rpa.request (flow, key, digest, at)"
        " SELECT rpa.flow_id(%s), 'r' || g, '', now() - g * '1 day'::interval FROM generate_series(1, 6000) g",
        (FLOW,),
    )
    assert forget_requests(admin, retention_days=30.5) == 5000
    assert one(admin, "SELECT extract(day FROM now() - min(at)) FROM rpa.request") == 1000
    assert forget_requests(admin, retention_days=30.5) == 970
    assert forget_requests(admin, retention_days=30.5) == 0
    assert one(admin, "SELECT count(*) FROM rpa.request") == 30
