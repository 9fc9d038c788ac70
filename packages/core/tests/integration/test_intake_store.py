"""Records into the ledger: on the caller's transaction, each key once, whatever is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rpa_core.errors import InputError, UsageError
from rpa_core.store import lookup
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, Rejected, enqueue, remember_request, set_aside
from rpa_core.store.ledger import Ledger
from rpa_core.store.retention import forget_requests
from rpa_testkit.databases import Database, Databases

from .ledger_steps import FLOW, end, one, open_ledger, records, take

_BOTH = pytest.mark.parametrize("among", [0, 60], ids=["insert", "copy"])  # few records go another way than many


@pytest.fixture
def caller(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the caller, who commits."""
    with connect(database.dsn, autocommit=False) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[psycopg.Connection[Any]]:
    """A connection to one database for all tests that commit nothing."""
    with databases.migrated() as database, connect(database.dsn, autocommit=False) as connection:
        yield connection


@pytest.fixture
def scratch(shared: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """The same, within a transaction that is undone."""
    shared.execute("SELECT 1")
    yield shared
    shared.rollback()


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection to look with."""
    with connect(database.dsn) as connection:
        yield connection


def _others(n: int) -> list[NewRecord]:
    return records(n, prefix="other ")


@pytest.mark.requirement("R6.2")
def test_a_stream_is_enqueued_in_constant_memory(caller: psycopg.Connection[Any]) -> None:
    """300,000 records from a generator cost no more memory than 20,000, and all of them arrive."""
    resident: list[int] = []

    def stream(n: int) -> Iterator[NewRecord]:
        for number in range(n):
            yield NewRecord(b'{"number": %d, "payload": "%s"}' % (number, b"x" * 100))
        resident.append(_resident_bytes())  # while whatever was kept of them is still there

    enqueue(caller, FLOW, stream(20_000))
    assert enqueue(caller, FLOW, stream(300_000)) == (300_000, 0)
    small, large = resident
    assert large - small < 8 * 1024 * 1024
    assert one(caller, "SELECT sum(n) FROM rpa.chunk") == 320_000
    assert one(caller, "SELECT max(n) FROM rpa.chunk") == 1000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@_BOTH
@pytest.mark.requirement("R3.1")
def test_a_key_is_enqueued_once(caller: psycopg.Connection[Any], admin: psycopg.Connection[Any], among: int) -> None:
    """Twice in a batch, in the next batch, in the next transaction, after a rotation, after it was done: once."""
    rest = _others(among)
    first = NewRecord(b'"first"', "key")
    again = NewRecord(b'"again"', "key")
    assert enqueue(caller, FLOW, [first, again, *rest]) == (1 + among, 1)
    assert enqueue(caller, FLOW, [again, *rest]) == (0, 1 + among)
    caller.commit()
    assert enqueue(caller, FLOW, [again, *rest]) == (0, 1 + among)
    caller.commit()
    admin.execute("SELECT rpa.rotate_period()")
    assert enqueue(caller, FLOW, [again, *rest]) == (0, 1 + among)
    caller.commit()
    ledger = open_ledger(caller.info.dsn)
    assert end(ledger, take(ledger))
    ledger.close()
    assert enqueue(caller, FLOW, [again, *rest]) == (0, 1 + among)
    assert enqueue(caller, "another.flow", [again, *rest]) == (1 + among, 0)
    caller.commit()
    assert _payloads(admin, "key") == ["first", "again"]


def _payloads(connection: psycopg.Connection[Any], key: str) -> list[Any]:
    rows = connection.execute("SELECT payload::text FROM rpa.record WHERE key = %s ORDER BY id", (key,))
    return [json.loads(row[0]) for row in rows]


@_BOTH
@pytest.mark.requirement("R3.1", "R8.2")
def test_records_exist_when_the_caller_commits(
    caller: psycopg.Connection[Any], admin: psycopg.Connection[Any], among: int
) -> None:
    """Nothing is seen before the commit, nothing stays after a rollback, everything is there at once after it."""
    mine = [NewRecord(b"1", "mine"), *_others(among)]
    enqueue(caller, FLOW, mine)
    assert one(admin, "SELECT count(*) FROM rpa.record") == 0
    assert one(admin, "SELECT count(*) FROM rpa.chunk") == 0
    caller.rollback()
    assert one(admin, "SELECT count(*) FROM rpa.record") == 0
    caller.execute("CREATE TABLE orders (id integer)")
    enqueue(caller, FLOW, mine)
    caller.execute("INSERT INTO orders VALUES (1)")
    caller.commit()
    assert one(admin, "SELECT count(*) FROM rpa.record") == 1 + among
    assert one(admin, "SELECT sum(n) FROM rpa.chunk") == 1 + among
    assert one(admin, "SELECT count(*) FROM orders") == 1


_KEYS = {
    "tab": "a\tb",
    "newline": "a\nb\r\n",
    "backslash": "a\\b\\n\\N",
    "null-marker": "\\N",
    "end-marker": "\\.",
    "quotes": "a'b\"c",
    "unicode": "ключ 鍵 🔑 e\u0301",
    "empty": "",
    "long": "k" * 2000,
    "braces": '{a,b,"c"}',
    "percent": "%s %(x)s",
}


@_BOTH
@pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS.keys())
@pytest.mark.requirement("R7.7", "R3.1")
def test_any_text_is_a_key(scratch: psycopg.Connection[Any], key: str, among: int) -> None:
    """Keys with COPY's and SQL's own characters come back as they were, and are known again."""
    assert enqueue(scratch, FLOW, [NewRecord(b"1", key), *_others(among)]) == (1 + among, 0)
    assert enqueue(scratch, FLOW, [NewRecord(b"2", key), *_others(among)]) == (0, 1 + among)
    status = lookup.record_status(scratch, FLOW, key)
    assert status is not None
    assert status.state == "ready"
    assert one(scratch, "SELECT count(*) FROM rpa.record WHERE key = %s", (key,)) == 1


_PAYLOADS = [
    rb'{"text": "a\tb\nc\\d\"e\u00e9\/"}',
    b'{\n\t"spread": [1,\r\n2]\n}',
    '{"ключ": "🔑"}'.encode(),
    rb'{"nul": "\u0000"}',
    rb'"\\N"',
    b'{"n": 1e400, "same": 1, "same": 2}',
    b" null ",
]


@_BOTH
@pytest.mark.parametrize("payload", _PAYLOADS)
@pytest.mark.requirement("R7.7", "R3.1")
def test_a_payload_is_kept_to_the_letter(scratch: psycopg.Connection[Any], payload: bytes, among: int) -> None:
    """Escapes, white space, big numbers, repeated names: a worker reads the very bytes that were enqueued."""
    enqueue(scratch, FLOW, [NewRecord(payload, "k"), *_others(among)])
    ledger = Ledger(scratch, flow=FLOW, owner="reader", ttl_s=10)
    read = {row.key: row.payload for content in ledger.read(take(ledger)) for row in content.records}
    assert read["k"] == payload


_BAD = {
    "empty": NewRecord(b""),
    "cut-off": NewRecord(b'{"a": '),
    "two-values": NewRecord(b"1 2"),
    "raw-nul": NewRecord(b'"\x00"'),
    "not-utf-8": NewRecord(b'"\xff\xfe"'),
    "surrogate": NewRecord(rb'"\ud800"'.replace(rb"\ud800", b"\xed\xa0\x80")),
    "too-deep": NewRecord(b"[" * 100_000 + b"]" * 100_000),
    "key-with-nul": NewRecord(b"1", "a\x00b"),
    "key-with-surrogate": NewRecord(b"1", "a\ud800b"),
    "key-too-long": NewRecord(b"1", "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(5_000))),
}


@_BOTH
@pytest.mark.parametrize("bad", _BAD.values(), ids=_BAD.keys())
@pytest.mark.requirement("R7.7", "R8.7")
def test_a_bad_record_is_refused_with_all_that_came_with_it(
    scratch: psycopg.Connection[Any], bad: NewRecord, among: int
) -> None:
    """InputError says why; a savepoint of the caller's undoes the call, and what came before it stands."""
    enqueue(scratch, FLOW, records(3, prefix="before "))
    with pytest.raises(InputError, match=FLOW), scratch.transaction():
        enqueue(scratch, FLOW, [*_others(among), bad])
    enqueue(scratch, FLOW, records(2, prefix="after "))
    assert one(scratch, "SELECT count(*) FROM rpa.record") == 5
    assert one(scratch, "SELECT sum(n) FROM rpa.chunk") == 5


@_BOTH
@pytest.mark.requirement("R7.7", "R8.7")
def test_a_transaction_is_over_after_a_bad_record(caller: psycopg.Connection[Any], among: int) -> None:
    """Without a savepoint of the caller's, what is right after an InputError is a rollback; nothing stays."""
    with pytest.raises(InputError):
        enqueue(caller, FLOW, [*_others(2 * among), NewRecord(b"{", None)], chunk_size=50)
    caller.rollback()
    assert one(caller, "SELECT count(*) FROM rpa.record") == 0
    assert enqueue(caller, FLOW, [NewRecord(b"{}")]) == (1, 0)


@pytest.mark.parametrize("name", ["", "Upper", "1st", "-x", "a b", "a" * 42, "ä", "a;drop", "a\n"])
@_BOTH
@pytest.mark.requirement("R7.7", "R1.4")
def test_a_bad_flow_name_is_refused(scratch: psycopg.Connection[Any], name: str, among: int) -> None:
    """Every way in says what a flow may be called."""
    for call in (
        lambda: enqueue(scratch, name, [NewRecord(b"1"), *_others(among)]),
        lambda: set_aside(scratch, name, [Rejected(b"1", None, ("bad",))]),
        lambda: remember_request(scratch, name, "request", b"digest"),
    ):
        with pytest.raises(UsageError, match="lower-case"), scratch.transaction():
            call()
    assert one(scratch, "SELECT count(*) FROM rpa.flow") == 0


@pytest.mark.parametrize("chunk_size", [0, -1, 1001])
@pytest.mark.requirement("R7.7")
def test_chunk_size_has_bounds(scratch: psycopg.Connection[Any], chunk_size: int) -> None:
    """A chunk holds 1 to 1,000 records."""
    with pytest.raises(UsageError, match="1 to 1000"):
        enqueue(scratch, FLOW, records(1), chunk_size=chunk_size)


@pytest.mark.parametrize(("n", "chunk_size", "sizes"), [(7, 3, [3, 3, 1]), (100, 40, [40, 40, 20]), (0, 5, [])])
@pytest.mark.requirement("R5.4")
def test_records_are_cut_into_chunks(
    caller: psycopg.Connection[Any], n: int, chunk_size: int, sizes: list[int]
) -> None:
    """Chunks hold `chunk_size` records, in the order they came, the last one what is left."""
    assert enqueue(caller, FLOW, records(n), chunk_size=chunk_size) == (n, 0)
    assert [row[0] for row in caller.execute("SELECT n FROM rpa.chunk ORDER BY id")] == sizes
    caller.commit()
    ledger = open_ledger(caller.info.dsn)
    if n:
        read = [row.key for content in ledger.read(take(ledger)) for row in content.records]
        assert read == [record.key for record in records(n)]
    ledger.close()


@pytest.mark.requirement("R8.7", "R7.7")
def test_unreadable_input_is_set_aside_with_every_reason(scratch: psycopg.Connection[Any]) -> None:
    """Reasons keep their order and their characters; a known key is not set aside again; nothing is queued."""
    rejected = [
        Rejected(b'"a,b"', "line 1", ("too few columns", 'column "x": not a number', "tab\there")),
        Rejected(rb'"\u0000"', None, ("a NUL \x00 in the middle",)),
        Rejected(b'"z"', "line 3", ("ключ",)),
    ]
    assert set_aside(scratch, FLOW, rejected) == 3
    assert set_aside(scratch, FLOW, rejected[2:]) == 0
    enqueue(scratch, FLOW, [NewRecord(b"1", "known")])
    assert set_aside(scratch, FLOW, [Rejected(b"2", "known", ("bad",))]) == 0
    letters = list(lookup.dead_letters(scratch, FLOW))
    assert [(letter.key, letter.kind, letter.tries) for letter in letters] == [
        ("line 1", "unreadable", 0),
        (None, "unreadable", 0),
        ("line 3", "unreadable", 0),
    ]
    assert letters[0].reasons == list(rejected[0].reasons)
    assert letters[1].reasons == ["a NUL \\0 in the middle"]
    assert letters[0].payload == b'"a,b"'
    assert one(scratch, "SELECT sum(n) FROM rpa.chunk") == 1


@pytest.mark.requirement("R8.7", "R6.2")
def test_many_unreadable_lines_among_good_ones(scratch: psycopg.Connection[Any]) -> None:
    """10,000 bad lines are kept, and a record under the key of one of them is a duplicate."""
    bad = (Rejected(b'"%d"' % number, f"k{number}", (f"line {number}",)) for number in range(10_000))
    assert set_aside(scratch, FLOW, bad) == 10_000
    assert enqueue(scratch, FLOW, records(3, first=9_998)) == (1, 2)
    assert one(scratch, "SELECT count(*) FROM rpa.dead_letter") == 10_000
    assert one(scratch, "SELECT count(DISTINCT reasons[1]) FROM rpa.dead_letter") == 10_000


@pytest.mark.requirement("D4", "R3.1")
def test_enqueue_by_plain_sql(admin: psycopg.Connection[Any]) -> None:
    """Any client of PostgreSQL can enqueue: one function, in its own transaction."""
    call = "SELECT accepted, duplicates FROM rpa.enqueue(%s, %s::text[], %s::text[])"
    assert admin.execute(call, (FLOW, ["a", None, "b"], ["1", "[2]", "3"])).fetchone() == (3, 0)
    assert admin.execute(call, (FLOW, ["a", None, "c"], ["9", "[2]", "4"])).fetchone() == (2, 1)
    assert admin.execute(call, (FLOW, [], [])).fetchone() == (0, 0)
    assert one(admin, "SELECT count(*) FROM rpa.record") == 5
    assert one(admin, "SELECT sum(n) FROM rpa.chunk") == 5
    for keys, payloads in ((["a"], ["1", "2"]), ([None] * 1001, ["1"] * 1001)):
        with pytest.raises(psycopg.errors.RaiseException, match="up to 1000"):
            admin.execute(call, (FLOW, keys, payloads))
    with pytest.raises(psycopg.DataError):
        admin.execute(call, (FLOW, [None], ["{"]))
    assert one(admin, "SELECT count(*) FROM rpa.record") == 5


@pytest.mark.requirement("R5.4")
def test_workers_are_told_once_at_the_commit(database: Database, caller: psycopg.Connection[Any]) -> None:
    """One notification a transaction, however many chunks it wrote, and none before it commits."""
    with connect(database.dsn) as listener:
        listener.execute(f'LISTEN "rpa.{FLOW}"')
        enqueue(caller, FLOW, records(500), chunk_size=100)
        enqueue(caller, FLOW, records(5, prefix="few "), chunk_size=2)
        assert list(listener.notifies(timeout=0.05)) == []
        caller.commit()
        assert [told.channel for told in listener.notifies(timeout=20, stop_after=1)] == [f"rpa.{FLOW}"]
        enqueue(caller, FLOW, records(500), chunk_size=100)
        enqueue(caller, FLOW, records(3, prefix="quiet "), notify=False)
        caller.commit()
        enqueue(caller, FLOW, records(3, prefix="undone "))
        caller.rollback()
        assert list(listener.notifies(timeout=0.05)) == []


@pytest.mark.requirement("R8.1", "R6.2")
def test_remembered_requests_are_forgotten_in_time(scratch: psycopg.Connection[Any]) -> None:
    """An idempotency key is good for the retention; then it is free again."""
    assert remember_request(scratch, FLOW, "old", b"a") is None
    scratch.execute("UPDATE rpa.request SET at = now() - interval '31 days'")
    assert remember_request(scratch, FLOW, "new", b"b") is None
    assert forget_requests(scratch, retention_days=30) == 1
    assert remember_request(scratch, FLOW, "old", b"c") is None
    remembered = remember_request(scratch, FLOW, "new", b"d")
    assert remembered is not None
    assert (remembered.digest, remembered.accepted) == (b"b", None)
