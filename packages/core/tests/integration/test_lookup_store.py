"""What people ask of the ledger, and what they may change: status, depths, dead letters, put back, requeue, pause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rpa_core.store import lookup
from rpa_core.store.connect import connect
from rpa_core.store.intake import Rejected, enqueue, set_aside
from rpa_core.store.ledger import Ledger
from rpa_core.store.lookup import FlowDepth
from rpa_testkit.databases import Database

from .ledger_steps import FLOW, end, fill, one, open_ledger, records, run_out, take


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The connection of whoever asks."""
    with connect(database.dsn) as connection:
        yield connection


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """A worker's ledger."""
    opened = open_ledger(database.dsn)
    yield opened
    opened.close()


def _status(connection: psycopg.Connection[Any], key: str = "k0") -> lookup.RecordStatus:
    status = lookup.record_status(connection, FLOW, key)
    assert status is not None
    return status


@pytest.mark.requirement("R8.7")
def test_a_record_is_followed_through_every_state(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger
) -> None:
    """ready, leased, waiting, ready, set aside, put back, done: each is told, with reasons and results."""
    fill(database.dsn, 3)
    assert (_status(admin).state, _status(admin).attempts, _status(admin).result) == ("ready", 0, None)
    claim = take(ledger)
    assert _status(admin).state == "leased"
    end(ledger, claim, retry_s=3600)
    assert _status(admin).state == "waiting"
    assert _status(admin).finished_at is None
    assert lookup.requeue(admin, FLOW) == 3
    assert _status(admin).state == "ready"
    end(ledger, take(ledger), dead="exhausted")
    status = _status(admin)
    assert (status.state, status.attempts, status.reasons) == ("set_aside", 1, ("exhausted: no good", "at all"))
    assert status.finished_at is not None
    assert lookup.put_back(admin, FLOW, keys=["k0"]) == 1
    assert (_status(admin).state, _status(admin, "k1").state) == ("ready", "set_aside")
    end(ledger, take(ledger), data=b'{"answer": [42]}')
    status = _status(admin)
    assert (status.state, status.result, status.reasons) == ("done", {"answer": [42]}, ())
    assert status.finished_at is not None
    assert status.finished_at > status.enqueued_at


@pytest.mark.requirement("R8.7")
def test_an_unknown_record_has_no_status(database: Database, admin: psycopg.Connection[Any]) -> None:
    """Neither an unknown key nor a key of another flow."""
    fill(database.dsn, 1)
    assert lookup.record_status(admin, FLOW, "nobody") is None
    assert lookup.record_status(admin, "other", "k0") is None


@pytest.mark.requirement("R5.2", "R6.5")
def test_depths_count_records_by_state(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """Ready, waiting, leased and dead, per flow, with the age of the oldest that is not finished."""
    assert lookup.flow_depths(admin)[FLOW] == FlowDepth()
    fill(database.dsn, 100, chunk_size=10)
    end(ledger, take(ledger, records=10, chunks=1), retry_s=3600)
    end(ledger, take(ledger, records=20, chunks=2), dead="rejected")
    end(ledger, take(ledger, records=10, chunks=1))
    take(ledger, records=20, chunks=2)
    with admin.transaction():
        enqueue(admin, "other", records(7))
    admin.execute("UPDATE rpa.chunk SET created_at = now() - interval '100 s' WHERE state = 'w'")
    depths = lookup.flow_depths(admin)
    depth = depths[FLOW]
    assert (depth.ready, depth.waiting, depth.leased, depth.dead) == (40, 10, 20, 20)
    assert depth.unfinished == 70
    assert 100 <= depth.oldest_age_s < 200
    assert (depths["other"].ready, depths["other"].dead) == (7, 0)
    assert lookup.done_counts(admin) == {FLOW: 10}


@pytest.mark.requirement("R8.7")
def test_dead_letters_are_paged(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """In the order of their ids, from where the last page ended, of the kinds that are asked for."""
    fill(database.dsn, 30, chunk_size=10)
    for kind in ("rejected", "exhausted", "rejected"):
        end(ledger, take(ledger, records=10, chunks=1), dead=kind)
    pages: list[list[lookup.DeadLetterRow]] = []
    after = 0
    while page := list(lookup.dead_letters(admin, FLOW, most=12, after=after)):
        pages.append(page)
        after = page[-1].record_id
    assert [len(page) for page in pages] == [12, 12, 6]
    assert [letter.key for page in pages for letter in page] == [f"k{number}" for number in range(30)]
    letter = pages[0][0]
    assert (letter.kind, letter.tries, letter.payload) == ("rejected", 1, b'{"number": 0}')
    assert letter.reasons == ["rejected: no good", "at all"]
    assert len(list(lookup.dead_letters(admin, FLOW, kinds=["exhausted"]))) == 10
    assert list(lookup.dead_letters(admin, "other")) == []


@pytest.mark.requirement("R8.7")
def test_dead_letters_are_put_back_by_choice(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger
) -> None:
    """By key, by id, by kind, or all; each once; what could not be read stays."""
    fill(database.dsn, 2500, chunk_size=500)
    for kind in ("rejected", "exhausted", "crash", "unstorable", "rejected"):
        end(ledger, take(ledger, records=500, chunks=1), dead=kind)
    with admin.transaction():
        set_aside(admin, FLOW, [Rejected(b'"x"', "line", ("bad",))])
        enqueue(admin, "other", records(1))
    first = next(lookup.dead_letters(admin, FLOW)).record_id
    assert lookup.put_back(admin, FLOW, keys=["k1", "k2", "nobody", "line"]) == 2
    assert lookup.put_back(admin, FLOW, keys=["k1"]) == 0
    assert lookup.put_back(admin, FLOW, ids=[first, -1]) == 1
    assert lookup.put_back(admin, FLOW, kinds=["exhausted"]) == 500
    assert lookup.put_back(admin, FLOW, keys=["k1500"], kinds=["rejected"]) == 0
    assert lookup.put_back(admin, FLOW, keys=[]) == 0
    assert lookup.put_back(admin, "other") == 0
    assert lookup.put_back(admin, FLOW) == 2500 - 503
    assert lookup.put_back(admin, FLOW, kinds=["unreadable"]) == 0
    assert [letter.kind for letter in lookup.dead_letters(admin, FLOW)] == ["unreadable"]
    assert one(admin, "SELECT sum(n) FROM rpa.chunk WHERE flow = %s", (ledger.flow_id,)) == 2500
    end(ledger, take(ledger))
    assert lookup.done_counts(admin) == {FLOW: 2500}


@pytest.mark.requirement("R8.7")
def test_put_back_starts_with_a_clean_slate_and_tells_workers(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger
) -> None:
    """The tries begin anew, and waiting workers hear of it."""
    fill(database.dsn, 2)
    end(ledger, take(ledger), dead="exhausted")
    with connect(database.dsn) as listener:
        listener.execute(f'LISTEN "rpa.{FLOW}"')
        assert lookup.put_back(admin, FLOW) == 2
        assert {told.channel for told in listener.notifies(timeout=20, stop_after=1)} == {f"rpa.{FLOW}"}
    (chunk,) = take(ledger).chunks
    assert (chunk.tries, chunk.attempts) == ([0, 0], 1)
    assert chunk.ids is not None
    assert len(chunk.ids) == 2


@pytest.mark.requirement("R8.7")
def test_dead_letters_of_several_periods_are_put_back(
    database: Database, admin: psycopg.Connection[Any], ledger: Ledger
) -> None:
    """Each comes back into a chunk of its own period, where its record is."""
    for first in (0, 10):
        with connect(database.dsn, autocommit=False) as connection:
            enqueue(connection, FLOW, records(5, first=first))
        end(ledger, take(ledger), dead="rejected")
        admin.execute("SELECT rpa.rotate_period()")
    assert lookup.put_back(admin, FLOW) == 10
    claim = take(ledger)
    assert sorted((chunk.period, chunk.n) for chunk in claim.chunks) == [(1, 5), (2, 5)]
    assert len(end(ledger, claim)) == 2


@pytest.mark.requirement("R8.7")
def test_requeue_makes_what_waits_ready(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """What waits for its next try is tried now; its tries are kept."""
    fill(database.dsn, 6, chunk_size=3)
    end(ledger, take(ledger), retry_s=3600)
    assert ledger.promote(records=100) == 0
    assert ledger.claim(records=100, chunks=10) is None
    assert lookup.requeue(admin, FLOW) == 6
    assert lookup.requeue(admin, FLOW) == 0
    assert [chunk.tries for chunk in take(ledger).chunks] == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.requirement("R8.1", "R8.7")
def test_due_retries_are_promoted(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """Not before their time, and no more at once than asked for."""
    fill(database.dsn, 30, chunk_size=10)
    end(ledger, take(ledger), retry_s=3600)
    assert ledger.promote(records=100) == 0
    admin.execute("UPDATE rpa.chunk SET not_before = now() - interval '1 s'")
    assert ledger.promote(records=11) == 20
    assert ledger.promote(records=100) == 10


@pytest.mark.requirement("R6.5")
def test_a_paused_flow_is_not_claimed(database: Database, admin: psycopg.Connection[Any], ledger: Ledger) -> None:
    """Neither new work nor what ran out; who holds a lease may finish; depths say that it is paused."""
    fill(database.dsn, 4, chunk_size=2)
    held = take(ledger, records=2, chunks=1)
    lookup.set_paused(admin, FLOW, True)
    assert ledger.claim(records=10, chunks=10) is None
    assert lookup.flow_depths(admin)[FLOW].paused
    assert end(ledger, held)
    lookup.set_paused(admin, FLOW, False)
    left = take(ledger)
    run_out(admin)
    lookup.set_paused(admin, FLOW, True)
    assert ledger.reclaim(records=10, chunks=10) is None
    lookup.set_paused(admin, FLOW, False)
    again = ledger.reclaim(records=10, chunks=10)
    assert again is not None
    assert end(ledger, left) == set()
    assert end(ledger, again)
    assert not lookup.flow_depths(admin)[FLOW].paused
