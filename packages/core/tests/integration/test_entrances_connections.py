"""`enqueue` on every kind of connection: all of a call or nothing of it, to the letter; what is not taken is named."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg_pool import ConnectionPool
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from rpa_core.errors import InputError, SchemaError, UsageError
from rpa_core.store.connect import connect
from rpa_core.store.intake import BLOCK_BYTES, NewRecord, Rejected, enqueue, set_aside
from rpa_testkit.databases import Database, Databases

from .entrance_kinds import KINDS, sent, stored
from .ledger_steps import one

_EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
_FEW_OR_MANY = pytest.mark.parametrize("n", [3, 60], ids=["insert", "copy"])


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Database]:
    """One database; each test has a flow of its own."""
    with databases.migrated() as database:
        yield database


@pytest.fixture
def flow(request: pytest.FixtureRequest) -> str:
    """A flow that only this test uses."""
    return "f" + hashlib.blake2b(request.node.name.encode(), digest_size=8).hexdigest()


@_FEW_OR_MANY
@_EVERY_KIND
@pytest.mark.requirement("R3.1", "R8.2")
def test_what_is_accepted_is_stored_to_the_letter(shared: Database, flow: str, kind: str, n: int) -> None:
    """With keys and without, twice the same keys, in one chunk and in several: stored once the caller commits."""
    keyed, keyless = sent(n, True, "a"), sent(n, False, "")
    with KINDS[kind](shared.dsn) as caller:
        assert enqueue(caller.connection, flow, keyed) == (n, 0)
        assert enqueue(caller.connection, flow, keyed) == (0, n)
        assert enqueue(caller.connection, flow, keyless, chunk_size=min(n, 25)) == (n, 0)
        if not caller.own:
            assert stored(shared.dsn, flow) == []
        caller.commit()
    assert stored(shared.dsn, flow) == keyed + keyless


@_FEW_OR_MANY
@_EVERY_KIND
@pytest.mark.requirement("R3.1", "R8.2", "R8.7")
def test_what_is_refused_or_undone_is_not_stored(shared: Database, flow: str, kind: str, n: int) -> None:
    """A bad last record, in the first chunk or a later one, undoes the call; a rollback undoes a good one."""
    bad = NewRecord(b"{", "bad")
    for keyed in (True, False):
        for chunk_size in (1000, 2):
            with KINDS[kind](shared.dsn) as caller:
                with pytest.raises(
                    (InputError, psycopg.NotSupportedError), match=r"not valid JSON|codec not available"
                ):
                    enqueue(caller.connection, flow, [*sent(n, keyed, "b"), bad], chunk_size=chunk_size)
                caller.rollback()
            with KINDS[kind](shared.dsn) as caller:
                if not caller.own:
                    assert enqueue(caller.connection, flow, sent(n, keyed, "c"), chunk_size=chunk_size) == (n, 0)
                    caller.rollback()
    assert stored(shared.dsn, flow) == []


@_FEW_OR_MANY
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "LATIN1" in kind])
@pytest.mark.requirement("R3.1", "R7.7")
def test_text_that_is_two_texts_is_the_one_that_was_sent(shared: Database, flow: str, kind: str, n: int) -> None:
    """The Latin-1 bytes of these keys and payloads are UTF-8 of others: nothing would notice the wrong encoding."""
    records = [NewRecord(f'"Ã¼{number}"'.encode(), f"Ã¼{number}") for number in range(n)]
    with KINDS[kind](shared.dsn) as caller:
        assert enqueue(caller.connection, flow, records) == (n, 0)
        assert enqueue(caller.connection, flow, [NewRecord(b"1", f"ü{number}") for number in range(n)]) == (n, 0)
        caller.commit()
    assert stored(shared.dsn, flow)[:n] == records


@pytest.mark.requirement("R8.2", "R8.7")
def test_a_call_that_failed_leaves_nothing_to_commit(shared: Database, flow: str) -> None:
    """Who catches the error and commits all the same commits what came before the call, and nothing of it."""

    def stream() -> Iterator[NewRecord]:
        yield from sent(130, True, "x")
        raise KeyError("the caller's")

    with connect(shared.dsn, autocommit=False) as caller:
        enqueue(caller, flow, [NewRecord(b"1", "before")])
        for records, error in (
            (stream(), KeyError),
            ([*sent(130, True, "x"), "text"], UsageError),
            ([*sent(130, False, "x"), NewRecord(b"{")], InputError),
        ):
            with pytest.raises(error):
                enqueue(caller, flow, records, chunk_size=50)  # type: ignore[arg-type]
        caller.commit()
    assert stored(shared.dsn, flow) == [NewRecord(b"1", "before")]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.requirement("R8.2")
def test_records_and_their_chunk_are_one_transaction(database: Database, keyed: bool) -> None:
    """An autocommit connection that is cut between the records and their chunk leaves neither."""
    with connect(database.dsn) as admin, psycopg.connect(database.dsn, autocommit=True) as caller:
        admin.execute(
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END'"
        )
        admin.execute("CREATE TRIGGER cut BEFORE INSERT ON rpa.chunk FOR EACH ROW EXECUTE FUNCTION cut()")
        with pytest.raises(psycopg.OperationalError):
            enqueue(caller, "orphans", sent(500, keyed, "k"))
        assert one(admin, "SELECT count(*) FROM rpa.record") == 0


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.requirement("R6.2", "R6.4")
def test_blocks_and_chunks_are_bounded_by_bytes(shared: Database, flow: str, keyed: bool) -> None:
    """40 records of 1 MiB: never more than a block is taken from the caller before it is sent; no chunk is larger."""
    one_mib = b'"' + b"x" * (1024 * 1024 - 2) + b'"'
    taken: list[int] = []

    with connect(shared.dsn, autocommit=False) as caller:

        def stream() -> Iterator[NewRecord]:
            for number in range(40):
                taken.append(one(caller, "SELECT count(*) FROM rpa.record WHERE flow = rpa.flow_id(%s)", (flow,)))
                yield NewRecord(one_mib, f"k{number}" if keyed else None)
            yield NewRecord(b'"' + b"y" * (2 * BLOCK_BYTES) + b'"', "huge")
            yield NewRecord(b"1", "small")

        assert enqueue(caller, flow, stream()) == (42, 0)
        caller.commit()
    assert all(number - there <= 5 for number, there in enumerate(taken))
    assert len(stored(shared.dsn, flow)) == 42  # and every chunk is within its bounds
    with connect(shared.dsn) as admin:
        sizes = admin.execute("SELECT n FROM rpa.chunk WHERE flow = rpa.flow_id(%s) ORDER BY id", (flow,)).fetchall()
    assert [n for (n,) in sizes] == [4] * 10 + [1, 1]


@pytest.mark.requirement("D4", "R6.4")
def test_plain_sql_cuts_chunks_by_bytes_too(shared: Database, flow: str) -> None:
    """One call of rpa.enqueue with 11 MiB, a known key in it: chunks of 4 MiB at most, in order."""
    payloads = ['"' + "ü" * (512 * 1024) + '"'] * 11
    keys = [f"k{number}" for number in range(11)]
    with connect(shared.dsn) as caller:
        enqueue(caller, flow, [NewRecord(b"1", "k5")])
        answer = caller.execute("SELECT * FROM rpa.enqueue(%s, %s, %s)", (flow, keys, payloads)).fetchone()
        assert answer == (10, 1)
        sizes = caller.execute("SELECT n FROM rpa.chunk WHERE flow = rpa.flow_id(%s) ORDER BY id", (flow,)).fetchall()
    assert [n for (n,) in sizes] == [1, 3, 3, 3, 1]
    assert len(stored(shared.dsn, flow)) == 11


@pytest.mark.requirement("R6.2", "R8.7")
def test_what_is_set_aside_is_bounded_by_bytes_and_whole(shared: Database, flow: str) -> None:
    """10 MiB of unreadable input and a bad record at the end: nothing; without it: all, each with its reason."""
    some = [Rejected(b'"' + b"x" * 1024 * 1024 + b'"', None, (f"reason ü{number}",)) for number in range(10)]
    with psycopg.connect(shared.dsn, autocommit=True, client_encoding="LATIN1", row_factory=psycopg.rows.dict_row) as c:
        with pytest.raises(InputError):
            set_aside(c, flow, [*some, Rejected(b"{", None, ("bad",))])
        assert set_aside(c, flow, some) == 10
    with connect(shared.dsn) as admin:
        rows = admin.execute("SELECT reasons[1] FROM rpa.dead_letter WHERE flow = rpa.flow_id(%s)", (flow,)).fetchall()
    assert sorted(reason for (reason,) in rows) == sorted(f"reason ü{number}" for number in range(10))


_NOT_TAKEN: dict[str, Any] = {
    "a URL": "postgresql://localhost/rpa",
    "None": None,
    "DB-API of another driver": sqlite3.connect(":memory:"),
    "an engine": sqlalchemy.create_engine("sqlite://"),
    "SQLAlchemy over another driver": sqlalchemy.create_engine("sqlite://").connect(),
    "a session over another driver": Session(sqlalchemy.create_engine("sqlite://")),
    "an asynchronous session": AsyncSession(create_async_engine("postgresql+psycopg://localhost/none")),
    "a pool": ConnectionPool("", open=False),
}


@pytest.mark.parametrize("given", _NOT_TAKEN.values(), ids=_NOT_TAKEN.keys())
@pytest.mark.requirement("R7.7", "R8.3")
@pytest.mark.filterwarnings("error")
def test_a_connection_that_is_not_taken_is_named(given: Any) -> None:
    """One line: what is taken, what this is, and the function for every other driver."""
    with pytest.raises(UsageError, match=r"psycopg 3.*SELECT accepted, duplicates FROM rpa\.enqueue") as caught:
        enqueue(given, "flow", [NewRecord(b"1")])
    assert type(given).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.requirement("R7.7")
def test_an_asynchronous_connection_is_named(shared: Database, flow: str) -> None:
    """psycopg's own, and SQLAlchemy's within run_sync."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(shared.dsn) as connection:
            with pytest.raises(UsageError, match="AsyncConnection"):
                enqueue(connection, flow, [NewRecord(b"1")])
            calls = await connection.execute("SELECT accepted FROM rpa.enqueue(%s, %s, %s)", (flow, ["k"], ["1"]))
            assert await calls.fetchone() == (1,)

    asyncio.run(run())
    assert stored(shared.dsn, flow) == [NewRecord(b"1", "k")]


@pytest.mark.parametrize("n", [1, 60])
@pytest.mark.requirement("R7.7", "R8.3")
def test_a_failed_transaction_and_a_closed_connection_are_named(shared: Database, flow: str, n: int) -> None:
    """Neither is a fault of the records."""
    with connect(shared.dsn, autocommit=False) as caller:
        with pytest.raises(psycopg.errors.DivisionByZero):
            caller.execute("SELECT 1/0")
        with pytest.raises(UsageError, match="roll it back"):
            enqueue(caller, flow, sent(n, True, "k"))
        caller.rollback()
        caller.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            enqueue(caller, flow, sent(n, True, "k"))


_NO_RECORDS: dict[str, tuple[Any, str]] = {
    "one record": (NewRecord(b"1", "k"), "record 0 is a bytes: pass a list"),
    "a text": ("{}", "record 0 is a str"),
    "a mapping": ({"a": 1}, "record 0 is a str"),
    "a bare tuple": ([(b"1", "k")], "record 0 is a tuple: pass a list or iterator of rpa_core.NewRecord"),
    "None": ([NewRecord(b"1"), None], "record 1 is None"),
    "a mapping each": ([{"a": 1}], "record 0 is a dict"),
    "text payload": ([NewRecord("{}")], "payload of record 0 is a str: pass JSON text as bytes"),  # type: ignore[arg-type]
    "dict payload": ([NewRecord(b"1"), NewRecord({"a": 1})], "payload of record 1 is a dict"),  # type: ignore[arg-type]
    "tuple payload": ([NewRecord((1, 2))], "payload of record 0 is a tuple"),  # type: ignore[arg-type]
    "bytearray payload": ([NewRecord(bytearray(b"1"))], "payload of record 0 is a bytearray"),  # type: ignore[arg-type]
    "int key": ([NewRecord(b"1", 5)], "key of record 0 is a int: pass a str"),  # type: ignore[arg-type]
    "bytes key": ([NewRecord(b"1", b"k")], "key of record 0 is a bytes: pass a str"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("records", "message"), _NO_RECORDS.values(), ids=_NO_RECORDS.keys())
@pytest.mark.requirement("R7.7", "R8.3")
def test_what_is_no_record_is_named(shared: Database, flow: str, records: Any, message: str) -> None:
    """Which record it is, what it is and what to pass; nothing was sent."""
    with connect(shared.dsn, autocommit=False) as caller:
        with pytest.raises(UsageError, match=message):
            enqueue(caller, flow, records)
        assert caller.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize("name", [None, 5, b"flow", "Flow", ["flow"]])
@pytest.mark.requirement("R7.7")
def test_a_flow_name_is_checked_before_anything_is_sent(shared: Database, name: Any) -> None:
    """Also where it is no text, and before the records are touched."""
    with connect(shared.dsn, autocommit=False) as caller:
        with pytest.raises(UsageError, match="lower-case"):
            enqueue(caller, name, iter(int, 1))  # type: ignore[arg-type]
        assert caller.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


@pytest.mark.requirement("R7.7")
def test_another_encoding_of_the_database_is_refused(shared: Database) -> None:
    """A database that keeps bytes or Latin-1 is named with the way out, before anything is sent."""
    for encoding in ("SQL_ASCII", "LATIN1", "EUC_JP"):
        name = f"rpa_test_{encoding.lower()}"
        with connect(shared.dsn) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name}")
            admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
            try:
                with (
                    psycopg.connect(psycopg.conninfo.make_conninfo(shared.dsn, dbname=name)) as caller,
                    pytest.raises(SchemaError, match=f"encoding {encoding}.*CREATE DATABASE"),
                ):
                    enqueue(caller, "flow", [NewRecord(b"1")])
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
