"""What a ledger must bear from outside: a standby that knows less, names that come again, rows that are deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from rpa_core.store.connect import connect
from rpa_testkit.databases import Database
from rpa_testkit.waits import until

from .engine import Engine
from .ledger_steps import end, ends, fill, one, open_ledger, take


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to look and to change what nobody should."""
    with connect(database.dsn) as connection:
        yield connection


@pytest.mark.requirement("R3.1", "R8.2")
def test_after_a_failover_a_repeated_epoch_lets_no_old_worker_complete(
    database: Database, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A standby that missed the claim gives out the same epoch again; the lease id is another one, and decides."""
    fill(database.dsn, 10)
    with (
        closing(open_ledger(database.dsn, "before")) as before,
        closing(open_ledger(database.dsn, "after")) as after,
    ):
        lost = take(before)
        outcomes = ends(before, lost)
        admin.execute(
            "UPDATE rpa.chunk SET state = 'r', epoch = epoch - 1, lease_id = NULL, lease_until = NULL, owner = NULL,"
            " attempts = 0"
        )
        known = take(after)
        assert [chunk.epoch for chunk in known.chunks] == [chunk.epoch for chunk in lost.chunks]
        assert before.complete(lost, outcomes) == set()
        assert before.settle(lost) == (set(), set())
        assert one(admin, "SELECT count(*) FROM rpa.result") == 0
        assert end(after, known) == {chunk.id for chunk in known.chunks}
    assert one(admin, "SELECT count(*) FROM rpa.result") == 10


@pytest.mark.requirement("R3.1", "R5.4")
def test_a_name_that_comes_again_owns_nothing_of_its_namesake(engine: Engine) -> None:
    """Two workers called alike: when the connection of one breaks, it gives back no lease of the other."""
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 5} for number in range(600)), chunk_size=50)
    first, second = (engine.start("EFFECTS", worker_id="pod-0", claim_records=50, lease_ttl=5) for _ in range(2))
    for worker in (first, second):
        worker.wait_started()
    for _ in range(3):
        engine.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name ^@ 'rpa act pod-0' AND pid <> pg_backend_pid()"
        )
        wanted = min(600, engine.done() + 60)
        until(lambda: engine.done() >= wanted, 20, "both to go on", engine.describe)  # noqa: B023 - called here
    assert engine.settle(40) == {"done": 600}
    assert set(engine.effects().values()) == {1}
    assert first.metric('rpa_leases_lost_total{flow="act"}') + second.metric('rpa_leases_lost_total{flow="act"}') == 0


@pytest.mark.requirement("R8.7", "R3.1")
def test_a_record_that_somebody_deleted_holds_up_no_other(engine: Engine) -> None:
    """Its chunk lists it and finds it gone: counted as set aside, the others are done."""
    engine.enqueue(({"n": number} for number in range(20)), chunk_size=20)
    engine.ask("DELETE FROM rpa.record WHERE payload ->> 'n' IN ('3', '17')")
    engine.start()
    assert engine.settle() == {"done": 18}
    assert engine.ask("SELECT n, n_ok, n_dead, n_moved FROM rpa.chunk_done") == [(20, 18, 2, 0)]
