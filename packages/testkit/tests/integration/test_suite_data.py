"""Databases that are filled and emptied, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from rpa_core.errors import InputError, UsageError
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit import TestDataManager
from rpa_testkit.databases import Database
from rpa_testkit.suite.data import SCENARIOS
from rpa_testkit.suite.empty import empty

_CHUNKS = """
SELECT c.lo, c.hi, c.n, (SELECT count(*) FROM rpa.record r WHERE r.period = c.period AND r.flow = c.flow
                         AND r.id BETWEEN c.lo AND c.hi) FROM rpa.chunk c ORDER BY c.lo
"""
_LEFT = """
SELECT (SELECT count(*) FROM rpa.record), (SELECT count(*) FROM rpa.chunk), (SELECT count(*) FROM rpa.flow),
       (SELECT count(*) FROM rpa.period), (SELECT count(*) FROM rpa.migration) > 0
"""


@pytest.mark.requirement("R9.6")
def test_every_record_is_in_exactly_one_chunk(database: Database) -> None:
    """Blocks of 1,000 ids, the last one shorter; chunks of one load do not overlap those of the next."""
    manager = TestDataManager()
    for seed, records in ((1, 2_500), (2, 101_001)):
        manager.seed = seed
        loaded = manager.load(database.dsn, records=records, flow="survey")
        assert (loaded.accepted, loaded.duplicates) == (records, 0)
    with psycopg.connect(database.dsn) as connection:
        chunks = connection.execute(_CHUNKS).fetchall()
        total = connection.execute("SELECT count(*), count(DISTINCT key) FROM rpa.record").fetchone()
    assert total == (103_501, 103_501)
    assert sum(n for _, _, n, _ in chunks) == 103_501
    assert all(hi - lo + 1 == n == held <= 1000 for lo, hi, n, held in chunks)
    assert all(one[1] < other[0] for one, other in pairwise(chunks))


@pytest.mark.requirement("R9.6")
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_scenario_is_loaded_as_it_was_made(database: Database, scenario: str) -> None:
    """To the letter, each key once; duplicates are counted and not stored."""
    manager = TestDataManager(seed=11)
    loaded = manager.load(database.dsn, scenario, records=1_500, flow="survey")
    expected = {record.key: record.payload.decode() for record in manager.records(scenario, 1_500)}
    with psycopg.connect(database.dsn) as connection:
        stored: dict[str, str] = dict(connection.execute("SELECT key, payload::text FROM rpa.record").fetchall())
    assert stored == expected
    assert (loaded.records, loaded.accepted) == (1_500, len(expected))
    assert loaded.duplicates == loaded.made.get("duplicate", 0) == 1_500 - len(expected)


@pytest.mark.requirement("R9.6")
def test_what_is_there_already_is_a_duplicate(database: Database) -> None:
    """A load that meets keys of an earlier one adds what is new, also in the middle of a part."""
    manager = TestDataManager()
    manager.load(database.dsn, records=700)
    again = manager.load(database.dsn, records=1_200)
    assert (again.accepted, again.duplicates) == (500, 700)
    with psycopg.connect(database.dsn) as connection:
        chunks = connection.execute(_CHUNKS).fetchall()
    assert sum(n for _, _, n, _ in chunks) == 1_200
    assert all(n == held for _, _, n, held in chunks)


def rows(number: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """A source of one's own."""
    return ({"id": f"{seed}-{serial % 90}", "text": "tab\there \\ 'quoted'"} for serial in range(number))


@pytest.mark.requirement("R9.6")
def test_rows_may_come_from_elsewhere(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a callable, or by `module:function`; with a key field, rows under one key are one record."""
    manager = TestDataManager(seed=4)
    loaded = manager.load(database.dsn, records=100, flow="mine", rows=rows, key="id")
    assert (loaded.scenario, loaded.accepted, loaded.duplicates) == ("rows", 90, 10)
    with pytest.raises(UsageError, match="give module:function"):
        manager.load(database.dsn, rows="json:nothing")
    with pytest.raises(UsageError, match="give module:function"):
        manager.load(database.dsn, rows="no.such.module:rows")
    named = manager.load(database.dsn, records=3, flow="named", rows="rpa_testkit.suite.survey:records")
    assert (named.scenario, named.accepted) == ("rpa_testkit.suite.survey:records", 3)


@pytest.mark.requirement("R9.6")
def test_bad_input_is_said_and_nothing_of_its_part_is_loaded(database: Database) -> None:
    """In the words of the intake."""
    with pytest.raises(InputError, match="not valid JSON"):
        TestDataManager().load(database.dsn, records=2, rows=lambda *_: [NewRecord(b"{", "a"), NewRecord(b"{}", "b")])
    with pytest.raises(UsageError, match="flow name 'No'"):
        TestDataManager().load(database.dsn, records=2, flow="No")
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM rpa.record").fetchone() == (0,)


@pytest.mark.requirement("R9.6")
@pytest.mark.parametrize("key", [None, "", "\\N", "\\.", "tab\tline\nback\\slash", "é\U0001f469"])
def test_any_key_and_any_json_text_arrive(database: Database, key: str | None) -> None:
    """What COPY would read otherwise is escaped, also where it is one row of many."""
    odd = NewRecord(b'{"a" :\t"\\\\ \\n",\n "b": 1}', key)
    given = [NewRecord(b"{}", f"k{number}") for number in range(1_500)]
    TestDataManager().load(database.dsn, rows=lambda *_: [*given[:1_200], odd, *given[1_200:]])
    with psycopg.connect(database.dsn) as connection:
        stored = connection.execute("SELECT key, payload::text FROM rpa.record WHERE payload::text <> '{}'").fetchall()
    assert stored == [(key, odd.payload.decode())]


@pytest.mark.requirement("R9.6")
def test_a_reset_database_is_as_new(database: Database) -> None:
    """Empty, counting from the beginning, with one period; it takes records again."""
    manager = TestDataManager()
    manager.load(database.dsn, records=3_000)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("SELECT rpa.rotate_period()")
        enqueue(connection, "other", [NewRecord(b"{}", "a")])
        connection.execute("CREATE SCHEMA testkit; CREATE TABLE testkit.effect (record_id bigint)")
        connection.execute("INSERT INTO testkit.effect VALUES (1)")
        manager.reset(database.dsn)
        assert connection.execute(_LEFT).fetchone() == (0, 0, 0, 1, True)
        assert connection.execute("SELECT count(*) FROM testkit.effect").fetchone() == (0,)
        manager.load(database.dsn, records=10)
        assert connection.execute("SELECT min(id), count(*) FROM rpa.record").fetchone() == (1, 10)
        assert connection.execute("SELECT min(id) FROM rpa.chunk").fetchone() == (1,)


@pytest.mark.requirement("R9.6")
def test_a_database_in_use_is_not_emptied_under_anybody(database: Database) -> None:
    """It says what to do, and everything is still there."""
    TestDataManager().load(database.dsn, records=5)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("SELECT count(*) FROM rpa.record")
        with pytest.raises(UsageError, match="stop the workers first"):
            empty(database.dsn, ("rpa",), lock_s=0.2)
        assert connection.execute("SELECT count(*) FROM rpa.record").fetchone() == (5,)


@pytest.mark.requirement("R9.6")
def test_records_can_be_worked_on_while_the_rest_is_loaded(database: Database) -> None:
    """They are committed by the hundred thousand; a load that ends early keeps what it had committed."""
    reached, go_on = threading.Event(), threading.Event()

    def slow(number: int, seed: int) -> Iterator[NewRecord]:
        for serial in range(number):
            if serial == 100_000:
                reached.set()
                go_on.wait(60)
            yield NewRecord(b"{}", None)

    load = threading.Thread(target=lambda: TestDataManager().load(database.dsn, records=100_500, rows=slow))
    load.start()
    try:
        assert reached.wait(60)
        with psycopg.connect(database.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM rpa.record").fetchone() == (100_000,)
    finally:
        go_on.set()
        load.join()
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT count(*), sum(n) FROM rpa.chunk").fetchone() == (101, 100_500)
