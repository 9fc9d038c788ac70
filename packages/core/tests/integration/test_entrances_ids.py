"""Ids: a refusal uses none up, a sequence behind its table is an error with its repair, a key is in one period."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import IsolationLevel, errors

from rpa_core.errors import SchemaError, UsageError
from rpa_core.processing.flow import Flow
from rpa_core.processing.outcome import Done
from rpa_core.runtime import schema
from rpa_core.store.connect import classify, connect
from rpa_core.store.intake import NewRecord, Rejected, enqueue, remember_request, set_aside
from rpa_core.store.retention import rotate
from rpa_core.store.sequences import advance_sequences, sequences
from rpa_testkit.databases import Database

from .engine import Engine
from .ledger_steps import FLOW, end, ends, one, open_ledger, records, take, together

_SQL = "SELECT accepted, duplicates FROM rpa.enqueue(%s, %s::text[], %s::text[])"
_FEW_OR_MANY = pytest.mark.parametrize("n", [3, 60], ids=["insert", "copy"])


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection to look with."""
    with connect(database.dsn) as connection:
        yield connection


@pytest.mark.requirement("R7.7", "R3.1")
def test_refusals_use_up_no_ids(admin: psycopg.Connection[Any]) -> None:
    """Bad names, bad records of a new flow, rollbacks, by thousands: the next new flow and period have the next id."""
    enqueue(admin, "first", records(1))
    admin.execute(
        "DO $$ BEGIN FOR i IN 1..2000 LOOP BEGIN"
        "  PERFORM rpa.enqueue(CASE WHEN i % 2 = 0 THEN 'Bad Name' ELSE 'new' || i END, ARRAY['k'], ARRAY['{']);"
        " EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$"
    )
    for _ in range(20):
        with admin.transaction(force_rollback=True):
            enqueue(admin, "undone", records(2))
            set_aside(admin, "undone.too", [Rejected(b"1", None, ("bad",))])
            assert remember_request(admin, "undone.again", "key", b"") is None
            admin.execute("SELECT rpa.rotate_period()")
    for bad in (None, "", "Bad", "x" * 42, "a\n"):
        with pytest.raises(errors.CheckViolation, match="lower-case"):
            admin.execute(_SQL, (bad, ["k"], ["1"]))
    enqueue(admin, "second", records(1))
    assert admin.execute("SELECT name, id FROM rpa.flow ORDER BY id").fetchall() == [("first", 1), ("second", 2)]
    assert one(admin, "SELECT rpa.rotate_period()") == 2


@pytest.mark.requirement("R3.1", "R8.3")
def test_ids_of_flows_that_were_used_up_come_back(admin: psycopg.Connection[Any]) -> None:
    """A database whose sequence was used up by refusals works again; when there really are 32,767, it is said."""
    admin.execute("SELECT setval('rpa.flow_id_seq', 32767)")
    assert enqueue(admin, "works", records(1)) == (1, 0)
    admin.execute("INSERT INTO rpa.flow (id, name) OVERRIDING SYSTEM VALUE VALUES (32767, 'last')")
    with pytest.raises(SchemaError, match="no more flows"):
        enqueue(admin, "another", records(1))


@pytest.mark.requirement("R3.1", "R6.4")
def test_a_new_flow_is_made_once_and_blocks_no_other(database: Database, admin: psycopg.Connection[Any]) -> None:
    """Twins make one flow; while an open transaction has made one, others are made without waiting for it."""
    with connect(database.dsn, autocommit=False) as slow:
        enqueue(slow, "slow", records(1))
        admin.execute("SET lock_timeout = '5s'")
        enqueue(admin, "quick", records(1))
        slow.commit()

    def client(number: int) -> Callable[[], int]:
        def run() -> int:
            with connect(database.dsn) as connection:
                return sum(enqueue(connection, f"new{flow}", records(1)).accepted for flow in range(number, number + 5))

        return run

    assert sum(together(*(client(number) for number in range(4)))) == 8
    ids = [number for (number,) in admin.execute("SELECT id FROM rpa.flow ORDER BY id")]
    assert len(ids) == 10
    assert max(ids) <= 10 + 4 * 5  # a race costs an id at most


def _behind(connection: psycopg.Connection[Any], sequence: str) -> None:
    """As logical replication leaves it: the rows are there, the sequence is where it began."""
    connection.execute("SELECT setval(%s::regclass, 1, false)", (sequence,))


@_FEW_OR_MANY
@pytest.mark.parametrize("rotated", [False, True], ids=["same period", "next period"])
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
@pytest.mark.requirement("R3.1", "R8.3")
def test_records_behind_their_table_are_an_error(
    database: Database, admin: psycopg.Connection[Any], n: int, rotated: bool, keyed: bool
) -> None:
    """By every way in: an error that says what to run, and nothing is lost; after the repair all goes on."""
    enqueue(admin, FLOW, records(n, prefix="old "))
    if rotated:
        admin.execute("SELECT rpa.rotate_period()")
    new = records(n, prefix="new " if keyed else None)
    for _ in range(2):
        _behind(admin, "rpa.record_block")
        with pytest.raises(SchemaError, match=r"rpa\.record_block|repair-sequences"):
            enqueue(admin, FLOW, new)
        _behind(admin, "rpa.record_block")
        with pytest.raises(psycopg.DatabaseError, match="repair-sequences"):
            admin.execute(_SQL, (FLOW, [r.key for r in new], [r.payload.decode() for r in new]))
        _behind(admin, "rpa.record_block")
        with pytest.raises(SchemaError, match="repair-sequences"):
            set_aside(admin, FLOW, [Rejected(b"1", "bad" if keyed else None, ("bad",))])
    assert one(admin, "SELECT count(*) FROM rpa.record") == n
    _behind(admin, "rpa.record_block")  # a refusal uses a block of ids up
    assert [position.name for position in sequences(admin) if position.behind] == ["rpa.record_block"]
    assert advance_sequences(admin) == [("rpa.record_block", 1001)]
    assert advance_sequences(admin) == []
    assert enqueue(admin, FLOW, new) == (n, 0)
    assert one(admin, "SELECT count(DISTINCT id) FROM rpa.record") == 2 * n


@pytest.mark.requirement("R3.1")
def test_a_rotation_sets_a_sequence_forward(admin: psycopg.Connection[Any]) -> None:
    """Behind, and then a new period that is empty: no id is used twice."""
    enqueue(admin, FLOW, records(3, prefix="old "))
    _behind(admin, "rpa.record_block")
    with admin.transaction():
        admin.execute("UPDATE rpa.period SET opened_at = opened_at - interval '30 days'")
    assert rotate(admin, period_days=1) == 2
    enqueue(admin, FLOW, records(3, prefix="new "))
    assert one(admin, "SELECT count(DISTINCT id) FROM rpa.record") == 6


@pytest.mark.requirement("R3.1", "R8.3")
def test_chunks_behind_their_table_are_repaired(database: Database, admin: psycopg.Connection[Any]) -> None:
    """Unfinished chunks get another id where a finished one has theirs; then all are completed, once."""
    ledger = open_ledger(database.dsn)
    for number in range(3):
        enqueue(admin, FLOW, records(1, prefix=f"old {number} "))
    end(ledger, take(ledger))
    _behind(admin, "rpa.chunk_id_seq")
    assert [position.name for position in sequences(admin) if position.behind] == ["rpa.chunk_id_seq"]
    for number in range(3):
        enqueue(admin, FLOW, records(1, prefix=f"new {number} "))
    with pytest.raises(errors.UniqueViolation) as caught:
        end(ledger, take(ledger))
    assert "repair-sequences" in str(classify(caught.value))
    ledger.release_others(None)
    assert advance_sequences(admin) == [("rpa.chunk_id_seq", 7)]
    assert advance_sequences(admin) == []
    assert len(end(ledger, take(ledger))) == 3
    ledger.close()
    assert one(admin, "SELECT count(*) FROM rpa.result") == 6
    enqueue(admin, FLOW, records(1, prefix="live "))
    admin.execute("SELECT setval('rpa.chunk_id_seq', (SELECT min(id) FROM rpa.chunk), false)")
    with pytest.raises(SchemaError, match=r"chunk_pkey.*repair-sequences"):
        enqueue(admin, FLOW, records(1, prefix="clash "))


@pytest.mark.requirement("R8.3", "R2.2")
def test_a_worker_does_not_start_over_a_sequence_that_is_behind(engine: Engine) -> None:
    """The start ends with 78 and says what to run; `rpa db status` fails until it was run; then the worker starts."""
    engine.enqueue([{"n": 1}])
    engine.ask("SELECT setval('rpa.record_block', 1, false)")
    refused = engine.run_command("ACT", "--until-empty")
    assert refused.process.wait(30) == 78
    assert "sequence rpa.record_block is behind its table" in refused.process.log_text()
    status = engine.rpa("db", "status", "--json")
    assert status.wait(30) == 1
    behind = json.loads(status.log_text().splitlines()[-1])["sequences_behind"]
    assert [one["sequence"] for one in behind] == ["rpa.record_block"]
    shown = engine.rpa("db", "status")
    assert shown.wait(30) == 1
    assert "run `rpa db repair-sequences`" in shown.log_text()
    repaired = engine.rpa("db", "repair-sequences", "--json")
    assert repaired.wait(30) == 0
    assert json.loads(repaired.log_text().splitlines()[-1]) == {"advanced": {"rpa.record_block": 1001}}
    assert engine.rpa("db", "status").wait(30) == 0
    assert engine.run_command("ACT", "--until-empty").process.wait(30) == 0
    assert engine.places() == {"done": 1}


@pytest.mark.requirement("R3.1", "R8.3")
def test_a_hand_on_over_a_sequence_that_is_behind_drops_nothing(
    database: Database, admin: psycopg.Connection[Any]
) -> None:
    """The completion fails as a whole and says what to run; after the repair outcome and next record are both there."""
    for number in range(5):
        enqueue(admin, FLOW, records(1, prefix=f"k{number} "))
    ledger = open_ledger(database.dsn)
    claim = take(ledger)
    outcomes = ends(ledger, claim)
    for outcome in outcomes:
        outcome.emits = {"next": [(record_id, NewRecord(b"1")) for record_id, _ in outcome.results]}
    _behind(admin, "rpa.record_block")
    with pytest.raises(SchemaError, match="repair-sequences"):
        ledger.complete(claim, outcomes)
    assert one(admin, "SELECT count(*) FROM rpa.result") == 0
    advance_sequences(admin)
    assert len(ledger.complete(claim, outcomes)) == 5
    ledger.close()
    assert one(admin, "SELECT count(*) FROM rpa.record WHERE flow = rpa.flow_id('next')") == 5


@pytest.mark.requirement("R7.7", "R2.2")
def test_a_start_checks_encoding_and_sequences(database: Database, admin: psycopg.Connection[Any]) -> None:
    """The check of a start passes on a good database, whatever its date style is, and names a sequence behind."""
    admin.execute(f"ALTER DATABASE {database.name} SET datestyle = 'German, DMY'")
    flow = Flow(name="act", handle=lambda record, context: Done({}))
    schema.check(flow, {"rpa_db": database.dsn})
    enqueue(admin, FLOW, records(1))
    _behind(admin, "rpa.record_block")
    with pytest.raises(SchemaError, match=r"rpa\.record_block is behind"):
        schema.check(flow, {"rpa_db": database.dsn})


@_FEW_OR_MANY
@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("way", ["python", "sql", "set_aside"])
@pytest.mark.requirement("R3.1", "R6.4")
def test_a_snapshot_older_than_a_rotation_is_refused(
    database: Database, admin: psycopg.Connection[Any], level: IsolationLevel, way: str, n: int
) -> None:
    """40001, so the caller begins again; the keys of the other client are there once, in the open period."""
    enqueue(admin, FLOW, records(1, prefix="first "))

    def put(connection: psycopg.Connection[Any]) -> None:
        if way == "python":
            enqueue(connection, FLOW, records(n))
        elif way == "sql":
            keys, payloads = [f"k{number}" for number in range(n)], ["1"] * n
            connection.execute(_SQL, (FLOW, keys, payloads))
        else:
            set_aside(connection, FLOW, [Rejected(b"1", f"k{number}", ("bad",)) for number in range(n)])

    with psycopg.connect(database.dsn) as late:
        late.isolation_level = level
        late.execute("SELECT count(*) FROM rpa.flow")
        admin.execute("SELECT rpa.rotate_period()")
        put(admin)
        with pytest.raises(errors.SerializationFailure):
            put(late)
        late.rollback()
        put(late)
        late.commit()
        admin.execute("SELECT rpa.rotate_period()")
        late.execute("SELECT 1")
        enqueue(late, FLOW, records(1, prefix="still works "))
        late.commit()
    counts = admin.execute("SELECT key, count(*) FROM rpa.record GROUP BY key HAVING count(*) > 1").fetchall()
    assert counts == []
    assert one(admin, "SELECT count(*) FROM rpa.record r JOIN rpa.period p ON p.id = r.period WHERE p.id = 2") == n


@pytest.mark.requirement("R3.1", "R6.4")
def test_twins_of_every_isolation_level_across_rotations(database: Database) -> None:
    """Clients that begin again after 40001, while periods rotate: each key one record."""

    def client(level: IsolationLevel) -> Callable[[], int]:
        def run() -> int:
            accepted = 0
            with psycopg.connect(database.dsn) as connection:
                connection.isolation_level = level
                for number in range(25):
                    while True:
                        try:
                            connection.execute("SELECT count(*) FROM rpa.period")
                            accepted += enqueue(connection, FLOW, records(2, first=2 * number)).accepted
                            connection.commit()
                            break
                        except (errors.SerializationFailure, errors.DeadlockDetected):
                            connection.rollback()
            return accepted

        return run

    def rotator() -> int:
        with connect(database.dsn) as connection:
            for _ in range(10):
                connection.execute("SELECT rpa.rotate_period()")
        return 0

    levels = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
    assert sum(together(rotator, *(client(level) for level in levels))) == 50
    with connect(database.dsn) as admin:
        assert one(admin, "SELECT count(*) FROM rpa.record") == one(admin, "SELECT count(DISTINCT key) FROM rpa.record")
        assert one(admin, "SELECT sum(n) FROM rpa.chunk") == 50


@pytest.mark.requirement("R3.1", "R7.7")
def test_who_may_only_enqueue_needs_no_more_rights_than_before(
    database: Database, admin: psycopg.Connection[Any]
) -> None:
    """A role with the rights of plain enqueueing, in every isolation level."""
    admin.execute("DROP ROLE IF EXISTS rpa_test_enqueuer")
    admin.execute("CREATE ROLE rpa_test_enqueuer")
    try:
        admin.execute(
            "GRANT USAGE ON SCHEMA rpa TO rpa_test_enqueuer;"
            " GRANT SELECT, INSERT ON rpa.flow, rpa.record, rpa.chunk TO rpa_test_enqueuer;"
            " GRANT SELECT ON rpa.period TO rpa_test_enqueuer;"
            " GRANT USAGE ON SEQUENCE rpa.record_block, rpa.chunk_id_seq TO rpa_test_enqueuer"
        )
        for level in IsolationLevel:
            with psycopg.connect(database.dsn) as connection:
                connection.isolation_level = level
                connection.execute("SET ROLE rpa_test_enqueuer")
                assert enqueue(connection, f"flow{level.value}", records(60)).accepted == 60
                assert connection.execute(_SQL, (f"flow{level.value}", ["k"], ["1"])).fetchone() == (1, 0)
                assert [position.behind for position in sequences(connection)] == [False, False]
    finally:
        admin.execute("DROP OWNED BY rpa_test_enqueuer; DROP ROLE rpa_test_enqueuer")


@pytest.mark.requirement("R7.7")
def test_a_flow_name_from_a_client_of_the_first_schema_is_refused_in_its_words(admin: psycopg.Connection[Any]) -> None:
    """The error keeps the constraint's name, by which older clients know it."""
    with pytest.raises(errors.CheckViolation) as caught:
        admin.execute("SELECT rpa.flow_id('Bad')")
    assert caught.value.diag.constraint_name == "flow_name_check"
    with pytest.raises(UsageError):
        enqueue(admin, "Bad", [NewRecord(orjson.dumps(1))])
