"""Many real connections at the same moment: who wins, and that there is one winner."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.store import lookup
from rpa_core.store.connect import connect, is_transient
from rpa_core.store.intake import Enqueued, NewRecord, complete_request, enqueue, remember_request
from rpa_core.store.ledger import Ledger
from rpa_core.store.migrate import migrate
from rpa_core.store.values import Claim
from rpa_testkit.databases import Database
from rpa_testkit.waits import until

from .ledger_steps import FLOW, end, ends, fill, one, open_ledger, records, run_out, take, together

OpenLedger = Callable[..., Ledger]


@pytest.fixture
def ledgers(database: Database) -> Iterator[OpenLedger]:
    """Opens ledgers; all are closed at the end of the test."""
    with ExitStack() as stack:

        def opened(owner: str = "worker", checkpoints: Checkpoints | None = None) -> Ledger:
            ledger = open_ledger(database.dsn, owner, checkpoints=checkpoints)
            stack.callback(ledger.close)
            return ledger

        yield opened


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection to look and to turn clocks with."""
    with connect(database.dsn) as connection:
        yield connection


class Gate(Checkpoints):
    """Holds a worker between its results and the COMMIT."""

    def __init__(self) -> None:
        self.arrived, self.go = threading.Event(), threading.Event()

    def reach(self, point: Point) -> None:
        """Called by the engine."""
        if point is Point.RESULTS_WRITTEN:
            self.arrived.set()
            assert self.go.wait(30)


@pytest.mark.requirement("R5.4", "R6.4", "R3.1")
def test_one_of_eight_claims_a_chunk(database: Database, ledgers: OpenLedger) -> None:
    """A chunk goes to exactly one of eight workers that ask at the same moment."""
    workers = [ledgers(f"w{number}") for number in range(8)]
    for _ in range(20):
        fill(database.dsn, 3, prefix=None)
        claims = together(*(partial(worker.claim, records=100, chunks=10) for worker in workers))
        won = [number for number, claim in enumerate(claims) if claim is not None]
        assert len(won) == 1
        claim = claims[won[0]]
        assert claim is not None
        assert end(workers[won[0]], claim)


@pytest.mark.requirement("R5.4", "R6.4", "R3.1")
def test_claims_never_overlap(database: Database, ledgers: OpenLedger) -> None:
    """Eight workers empty 200 chunks between them: every chunk once, none left."""
    fill(database.dsn, 400, chunk_size=2)

    def empty(worker: Ledger) -> list[int]:
        taken: list[int] = []
        while claim := worker.claim(records=6, chunks=4):
            taken += [chunk.id for chunk in claim.chunks]
        return taken

    taken = together(*(partial(empty, ledgers(f"w{number}")) for number in range(8)))
    counted = Counter(chunk for chunks in taken for chunk in chunks)
    assert len(counted) == 200
    assert set(counted.values()) == {1}


@pytest.mark.requirement("R5.4", "R8.2")
def test_one_of_eight_reclaims_a_chunk(database: Database, ledgers: OpenLedger, admin: psycopg.Connection[Any]) -> None:
    """A lease that ran out goes to exactly one of eight, and its epoch and attempts count each claim."""
    fill(database.dsn, 3)
    workers = [ledgers(f"w{number}") for number in range(8)]
    take(workers[0])
    for round_number in range(2, 12):
        run_out(admin)
        claims = [c for c in together(*(partial(w.reclaim, records=9, chunks=9) for w in workers)) if c is not None]
        assert len(claims) == 1
        assert (claims[0].chunks[0].epoch, claims[0].chunks[0].attempts) == (round_number, round_number)


@pytest.mark.requirement("R5.4", "R8.2", "R3.1")
def test_completion_and_reclaim_at_the_same_moment(
    database: Database, ledgers: OpenLedger, admin: psycopg.Connection[Any]
) -> None:
    """Either the old worker completes or the new one has the chunk, never both, never neither."""
    old, new = ledgers("old"), ledgers("new")
    for _ in range(40):
        fill(database.dsn, 5, prefix=None)
        claim = take(old)
        outcomes = ends(old, claim)
        run_out(admin)
        kept, reclaimed = _both(partial(old.complete, claim, outcomes), partial(new.reclaim, records=9, chunks=9))
        assert bool(kept) != bool(reclaimed)
        if reclaimed:
            assert end(new, reclaimed)
    assert one(admin, "SELECT count(*) FROM rpa.result") == 200
    assert one(admin, "SELECT count(*) FROM rpa.chunk") == 0


def _both(complete: Callable[[], set[int]], reclaim: Callable[[], Claim | None]) -> tuple[set[int], Claim | None]:
    barrier = threading.Barrier(2)

    def completing() -> set[int]:
        barrier.wait(30)
        return complete()

    with ThreadPoolExecutor(1) as threads:
        completed = threads.submit(completing)
        barrier.wait(30)
        reclaimed = reclaim()
        return completed.result(), reclaimed


@pytest.mark.requirement("R5.4", "R8.2", "R6.4")
def test_nobody_waits_for_a_worker_between_fence_and_commit(
    database: Database, ledgers: OpenLedger, admin: psycopg.Connection[Any]
) -> None:
    """A chunk whose completion hangs is skipped at once, not taken; its owner then completes it."""
    fill(database.dsn, 5)
    gate = Gate()
    slow, other = ledgers("slow", gate), ledgers("other")
    claim = take(slow)
    outcomes = ends(slow, claim)
    run_out(admin)
    with ThreadPoolExecutor(1) as threads:
        completed = threads.submit(slow.complete, claim, outcomes)
        assert gate.arrived.wait(30)
        other.connection.execute("SET lock_timeout = '1s'")
        assert other.reclaim(records=9, chunks=9) is None
        assert other.claim(records=9, chunks=9) is None
        assert other.renew(claim) == (set(), {chunk.id for chunk in claim.chunks})
        gate.go.set()
        assert completed.result() == {chunk.id for chunk in claim.chunks}
    assert other.reclaim(records=9, chunks=9) is None
    assert one(admin, "SELECT count(*) FROM rpa.result") == 5


@pytest.mark.requirement("R8.1", "R8.2", "R3.1")
def test_a_worker_that_dies_between_fence_and_commit_leaves_nothing(
    database: Database, ledgers: OpenLedger, admin: psycopg.Connection[Any]
) -> None:
    """Its connection ends before the COMMIT: nothing was written, and another worker takes over."""
    fill(database.dsn, 5)
    gate = Gate()
    doomed, other = ledgers("doomed", gate), ledgers("other")
    claim = take(doomed)
    outcomes = ends(doomed, claim, data=b'"doomed"')
    run_out(admin)
    with ThreadPoolExecutor(1) as threads:
        completed = threads.submit(doomed.complete, claim, outcomes)
        assert gate.arrived.wait(30)
        admin.execute("SELECT pg_terminate_backend(%s)", (doomed.connection.info.backend_pid,))
        gate.go.set()
        with pytest.raises(psycopg.OperationalError) as error:
            completed.result()
    assert is_transient(error.value)
    reclaimed = until(lambda: other.reclaim(records=9, chunks=9), 20, "the row lock to go with its session")
    assert reclaimed is not None
    assert end(other, reclaimed, data=b'"other"')
    assert admin.execute("SELECT data::text, count(*) FROM rpa.result GROUP BY 1").fetchall() == [('"other"', 5)]
    fresh = ledgers("doomed")
    assert fresh.settle(claim) == (set(), set())


@pytest.mark.requirement("R8.1", "R8.2")
def test_settling_waits_for_the_session_that_may_still_commit(database: Database, ledgers: OpenLedger) -> None:
    """Whoever asks what became of a COMMIT is not told "still yours" while the old session may yet commit."""
    fill(database.dsn, 5)
    gate = Gate()
    old, fresh = ledgers("same", gate), ledgers("same")
    claim = take(old)
    ids = {chunk.id for chunk in claim.chunks}
    outcomes = ends(old, claim)
    with ThreadPoolExecutor(2) as threads:
        completed = threads.submit(old.complete, claim, outcomes)
        assert gate.arrived.wait(30)
        settled = threads.submit(fresh.settle, claim)
        with connect(database.dsn) as watch:
            until(lambda: _waiting(watch), 20, "the question to wait for the row")
        assert not settled.done()
        gate.go.set()
        assert completed.result() == ids
        assert settled.result() == (ids, set())


def _waiting(connection: psycopg.Connection[Any]) -> int:
    return int(
        one(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
    )


@pytest.mark.parametrize("n", [8, 200], ids=["insert", "copy"])
@pytest.mark.parametrize("same_order", [True, False], ids=["same-order", "any-order"])
@pytest.mark.requirement("R3.1", "R6.4", "R8.1")
def test_twins_that_enqueue_the_same_keys(
    database: Database, admin: psycopg.Connection[Any], n: int, same_order: bool
) -> None:
    """Four clients enqueue the same keys at the same moment: each key becomes one record, counted as new once.

    In different orders they may deadlock; PostgreSQL then ends one, which tries again like after any outage.
    """

    def enqueue_all(seed: int) -> int:
        mine = records(n)
        if not same_order:
            random.Random(seed).shuffle(mine)
        return _enqueue(database.dsn, mine).accepted

    for round_number in range(5):
        accepted = together(*(partial(enqueue_all, seed) for seed in range(4)))
        assert sum(accepted) == (n if round_number == 0 else 0)
    assert one(admin, "SELECT count(*) FROM rpa.record") == n
    assert one(admin, "SELECT count(DISTINCT key) FROM rpa.record") == n
    assert one(admin, "SELECT sum(n) FROM rpa.chunk") == n


def _enqueue(dsn: str, mine: list[NewRecord]) -> Enqueued:
    while True:
        try:
            with connect(dsn, autocommit=False) as connection:
                return enqueue(connection, FLOW, mine)
        except psycopg.Error as error:
            if not is_transient(error):
                raise


@pytest.mark.requirement("R3.1", "R6.4")
def test_twins_across_a_rotation(database: Database, admin: psycopg.Connection[Any]) -> None:
    """Keys stay unique while periods change under the clients that enqueue them."""
    done = threading.Event()

    def rotate() -> int:
        turns = 0
        with connect(database.dsn) as connection:
            while not done.is_set() and turns < 25:
                connection.execute("SELECT rpa.rotate_period()")
                turns += 1
        return turns

    def client() -> int:
        return sum(_enqueue(database.dsn, records(2, first=first)).accepted for first in range(0, 100, 2))

    def clients() -> int:
        accepted = sum(together(client, client, client, client))
        done.set()
        return accepted

    turns, accepted = together(rotate, clients)
    assert turns > 1
    assert accepted == 100
    assert one(admin, "SELECT count(*) FROM rpa.record") == 100
    assert one(admin, "SELECT count(DISTINCT key) FROM rpa.record") == 100
    assert one(admin, "SELECT count(DISTINCT period) FROM rpa.record") > 1


@pytest.mark.requirement("R8.7", "R6.4")
def test_twins_that_put_back(database: Database, ledgers: OpenLedger, admin: psycopg.Connection[Any]) -> None:
    """Four people put the same dead letters back: each is queued once."""
    fill(database.dsn, 3000)
    ledger = ledgers()
    assert end(ledger, take(ledger), dead="rejected")

    def put_back() -> int:
        with connect(database.dsn) as connection:
            return lookup.put_back(connection, FLOW)

    assert sum(together(put_back, put_back, put_back, put_back)) == 3000
    assert one(admin, "SELECT sum(n) FROM rpa.chunk") == 3000
    assert one(admin, "SELECT count(DISTINCT x) FROM rpa.chunk, unnest(ids) x") == 3000
    assert one(admin, "SELECT count(*) FROM rpa.dead_letter") == 0


@pytest.mark.requirement("R5.4")
def test_several_migrate_at_once(survey_hub: Database) -> None:
    """Every container migrates at its start: one does it, the others wait and find it done."""
    applied = together(*[partial(migrate, survey_hub.dsn)] * 4)
    everything = migrate(survey_hub.dsn)
    assert everything == []
    assert [names for names in applied if names] == [max(applied, key=len)]


@pytest.mark.parametrize("first_commits", [True, False])
@pytest.mark.requirement("R8.1")
def test_twin_requests_under_one_idempotency_key(database: Database, first_commits: bool) -> None:
    """The second waits for the first; then it gets the first one's answer, or the turn if there was none."""
    with (
        connect(database.dsn, autocommit=False) as first,
        connect(database.dsn, autocommit=False) as second,
        connect(database.dsn) as watch,
        ThreadPoolExecutor(1) as threads,
    ):
        assert remember_request(first, FLOW, "request", b"digest") is None
        answered = threads.submit(remember_request, second, FLOW, "request", b"other")
        until(lambda: _waiting(watch), 20, "the twin to wait")
        complete_request(first, FLOW, "request", 7, 1)
        if first_commits:
            first.commit()
            assert answered.result(30) == (b"digest", 7, 1)
        else:
            first.rollback()
            assert answered.result(30) is None
