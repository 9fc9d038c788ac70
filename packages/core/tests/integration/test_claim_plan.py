"""The plans of the hot statements, at the sizes where a wrong plan would hurt."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from rpa_core.store.connect import connect
from rpa_core.store.sql import statements
from rpa_testkit.databases import Database, Databases

from .ledger_steps import FLOW, fill, one, open_ledger, run_out, take

_CHUNKS = """
INSERT INTO rpa.chunk (flow, period, lo, hi, n, bytes, state, lease_id, lease_until, owner, not_before)
SELECT rpa.flow_id(%(flow)s), 1, g * 1000 + 1, g * 1000 + 1000, 1000, 50000, %(state)s::"char",
       CASE WHEN %(state)s = 'l' THEN gen_random_uuid() END, CASE WHEN %(state)s = 'l' THEN now() + '1 day' END, 'w',
       CASE WHEN %(state)s = 'w' THEN now() + '1 day' END
FROM generate_series(1, %(n)s) g
"""
_DONE = """
INSERT INTO rpa.chunk_done (id, period, flow, n, n_ok, n_moved, n_dead, epoch, lease_id, attempts, owner, created_at)
SELECT nextval('rpa.chunk_id_seq'), 1, rpa.flow_id(%(flow)s), 1000, 1000, 0, 0, 1, %(lease)s, 1, 'w', now()
FROM generate_series(1, %(n)s)
"""
_LEASE = uuid.UUID(int=1)


class Plan:
    """What EXPLAIN (ANALYZE, BUFFERS) says of one execution; nothing it did stays."""

    def __init__(self, connection: psycopg.Connection[Any], statement: bytes, parameters: Mapping[str, Any]) -> None:
        with connection.transaction(force_rollback=True):
            (told,) = one(connection, b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters)  # type: ignore[arg-type]  # bytes are a query too
        root = told["Plan"]
        self.buffers: int = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
        self.nodes = list(_nodes(root))
        self.rows: int = root["Actual Rows"]

    @property
    def indexes(self) -> set[str]:
        """Every index that was used."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def scanned(self) -> set[str]:
        """Every table that was read from end to end."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan" and _ran(node)}


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _ran(node: Mapping[str, Any]) -> bool:
    return bool(node["Actual Loops"])


def explain(connection: psycopg.Connection[Any], name: str, flow: str = FLOW, **parameters: Any) -> Plan:
    """The plan of a statement of the ledger."""
    who = {"flow": one(connection, "SELECT rpa.flow_id(%s)", (flow,)), "owner": "me", "ttl_s": 0.05, "lease": _LEASE}
    return Plan(connection, statements("ledger")[name], {**who, "cursor": 0, "size_bytes": 16_000_000, **parameters})


@pytest.fixture(scope="module")
def million(databases: Databases) -> Iterator[psycopg.Connection[Any]]:
    """A million chunks: 900,000 have ended; of the others most are ready, some wait, some are leased."""
    with databases.migrated() as database, connect(database.dsn) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_DONE, {"flow": FLOW, "n": 900_000, "lease": _LEASE})
        for state, n in (("w", 8_000), ("l", 2_000), ("r", 90_000)):
            connection.execute(_CHUNKS, {"flow": FLOW, "state": state, "n": n})
        connection.execute("VACUUM ANALYZE rpa.chunk")
        connection.execute("VACUUM ANALYZE rpa.chunk_done")
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a small database."""
    with connect(database.dsn) as connection:
        yield connection


@pytest.mark.slow
@pytest.mark.requirement("R6.4", "R5.4")
def test_claim_at_a_million_chunks(million: psycopg.Connection[Any]) -> None:
    """A claim walks the index of ready chunks, not the key over waiting and leased ones; 900,000 chunks are done."""
    plan = explain(million, "claim", records=2000, chunks=3)
    assert "chunk_ready" in plan.indexes
    assert plan.scanned <= {"flow"}
    assert plan.rows == 2
    assert plan.buffers < 100


@pytest.mark.requirement("R6.4", "R8.2")
def test_reclaim_at_a_million_chunks(million: psycopg.Connection[Any]) -> None:
    """Looking for leases that ran out reads what is leased and no more, also where it finds nothing."""
    nothing = explain(million, "reclaim", records=2000, chunks=3)
    assert "chunk_leased" in nothing.indexes
    assert nothing.scanned <= {"flow"}
    assert nothing.rows == 0
    assert nothing.buffers < 150


@pytest.mark.requirement("R6.4", "R8.7")
def test_promote_at_a_million_chunks(million: psycopg.Connection[Any]) -> None:
    """Looking for due retries stops at the first that is not due, however many wait."""
    plan = explain(million, "promote", records=2000, chunks=1000)
    assert "chunk_waiting" in plan.indexes
    assert plan.scanned == set()
    assert plan.buffers < 10


@pytest.mark.parametrize("name", ["renew", "still_ours", "release", "settle_lock"])
@pytest.mark.requirement("R6.4", "R5.4")
def test_statements_by_chunk_at_a_million(million: psycopg.Connection[Any], name: str) -> None:
    """Whatever names its chunks finds them by their key."""
    ids = [row[0] for row in million.execute("SELECT id FROM rpa.chunk WHERE state = 'l' ORDER BY id LIMIT 3")]
    plan = explain(million, name, ids=ids, delay_s=0.0)
    assert plan.indexes <= {"chunk_pkey", "chunk_leased"}
    assert "chunk_pkey" in plan.indexes
    assert plan.scanned == set()
    assert plan.buffers < 50


@pytest.mark.requirement("R6.4", "R8.1")
def test_settling_at_a_million_chunks(million: psycopg.Connection[Any]) -> None:
    """What became of a COMMIT is found by key among 900,000 ended chunks."""
    ids = [row[0] for row in million.execute("SELECT id FROM rpa.chunk_done ORDER BY id DESC LIMIT 3")]
    plan = explain(million, "settle_done", ids=ids, periods=[1])
    assert plan.indexes == {"chunk_done_p1_pkey"}
    assert plan.scanned == set()
    assert plan.rows == 3
    assert plan.buffers < 30


@pytest.mark.requirement("R6.4", "R8.2")
def test_fence_at_a_million_chunks(million: psycopg.Connection[Any]) -> None:
    """A completion's first statement finds its chunks by key."""
    rows = million.execute("SELECT id, lease_id FROM rpa.chunk WHERE state = 'l' ORDER BY id LIMIT 1").fetchall()
    plan = explain(
        million,
        "fence",
        ids=[rows[0][0]],
        lease=rows[0][1],
        epochs=[0],
        ok=[1000],
        moved=[0],
        dead=[0],
        statement_timeout="20s",
        idle_timeout="10s",
    )
    assert "chunk_pkey" in plan.indexes
    assert plan.scanned == set()
    assert plan.rows == 1
    assert plan.buffers < 50


@pytest.mark.slow
@pytest.mark.requirement("R6.4", "R6.2")
def test_claim_behind_a_long_dead_prefix(million: psycopg.Connection[Any]) -> None:
    """A forgotten snapshot keeps 40,000 ended chunks in the index: the cursor spares a worker from walking them."""
    flow = "pinned"
    million.execute(_CHUNKS, {"flow": flow, "state": "r", "n": 50_000})
    with connect(million.info.dsn, autocommit=False) as forgotten:
        forgotten.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        first = one(forgotten, "SELECT min(id) FROM rpa.chunk WHERE flow = rpa.flow_id(%s)", (flow,))
        cursor = first + 40_000
        million.execute("DELETE FROM rpa.chunk WHERE flow = rpa.flow_id(%s) AND id < %s", (flow, cursor))
        from_the_start = explain(million, "claim", flow, records=2000, chunks=3)
        from_the_cursor = explain(million, "claim", flow, records=2000, chunks=3, cursor=cursor)
        forgotten.rollback()
    assert "chunk_ready" in from_the_cursor.indexes
    assert from_the_cursor.rows == from_the_start.rows == 2
    assert from_the_cursor.buffers < 100
    assert from_the_start.buffers > 5 * from_the_cursor.buffers  # there is something to be spared


@pytest.mark.requirement("R6.4", "R6.2")
def test_claim_costs_the_same_at_ten_thousand_and_ten_million_records(admin: psycopg.Connection[Any]) -> None:
    """A thousand times as many records, about as many pages."""
    buffers = []
    for more in (10, 9_990):
        admin.execute(_CHUNKS, {"flow": FLOW, "state": "r", "n": more})
        admin.execute("VACUUM ANALYZE rpa.chunk")
        buffers.append(explain(admin, "claim", records=2000, chunks=3).buffers)
    assert one(admin, "SELECT sum(n) FROM rpa.chunk") == 10_000_000
    small, large = buffers
    assert large <= 1.5 * small + 10


@pytest.mark.requirement("R6.4")
def test_claim_right_after_a_bulk_load(admin: psycopg.Connection[Any]) -> None:
    """The plan is right before any statistics exist, with a backlog of retries in front."""
    for state, n in (("w", 20_000), ("r", 20_000)):
        admin.execute(_CHUNKS, {"flow": FLOW, "state": state, "n": n})
    plan = explain(admin, "claim", records=2000, chunks=3)
    assert "chunk_ready" in plan.indexes
    assert plan.scanned <= {"flow"}
    assert plan.buffers < 100


@pytest.mark.requirement("R6.4", "R6.2")
def test_records_are_read_by_their_key(admin: psycopg.Connection[Any], database: Database) -> None:
    """Chunks of several periods are read through the primary keys of those periods, a page or so for each record."""
    for _ in range(3):
        fill(database.dsn, 10_000, prefix=None)
        admin.execute("SELECT rpa.rotate_period()")
    admin.execute("VACUUM ANALYZE rpa.record")
    chunks = admin.execute("SELECT period, lo, hi FROM rpa.chunk WHERE id % 10 = 1 ORDER BY id").fetchall()
    assert len(chunks) == 3
    periods, los, his = (list(column) for column in zip(*chunks, strict=True))
    ranges = explain(admin, "read_ranges", periods=periods, los=los, his=his)
    assert ranges.indexes >= {"record_p1_pkey", "record_p2_pkey", "record_p3_pkey"}
    assert ranges.scanned == set()
    assert ranges.rows == 3000
    assert ranges.buffers < 400
    some = explain(admin, "read_ids", period=2, ids=list(range(los[1], los[1] + 100)))
    assert some.indexes == {"record_p2_pkey"}
    assert some.scanned == set()
    assert some.rows == 100


@pytest.mark.requirement("R6.4", "R5.4")
def test_renewals_stay_out_of_the_indexes(admin: psycopg.Connection[Any], database: Database) -> None:
    """Renewals are HOT updates, but for the odd one that finds its page full: indexes do not grow with time."""
    fill(database.dsn, 20, chunk_size=10)
    ledger = open_ledger(database.dsn)
    claim = take(ledger)
    before = one(admin, "SELECT pg_stat_get_tuples_hot_updated('rpa.chunk'::regclass)")
    for _ in range(50):
        ledger.renew(claim)
    ledger.connection.execute("SELECT pg_stat_force_next_flush()")
    ledger.close()
    admin.execute("SELECT pg_stat_clear_snapshot()")
    assert 95 <= one(admin, "SELECT pg_stat_get_tuples_hot_updated('rpa.chunk'::regclass)") - before <= 100
    run_out(admin)
