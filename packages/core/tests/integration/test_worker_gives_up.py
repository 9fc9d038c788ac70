"""A database that is there and still takes too long over a commit: the outcomes are given back, not tried for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.ledger import Ledger
from rpa_testkit.databases import Database
from rpa_testkit.waits import until


def _handle(record: Record, _: FlowContext) -> Done:
    return Done(record.payload)


def _held_up(connection: psycopg.Connection[Any], _: Sequence[tuple[Record, Done]]) -> None:
    connection.execute("SELECT set_config('lock_timeout', '20ms', true)")
    connection.execute("LOCK TABLE public.held")


@pytest.mark.requirement("R8.1")
def test_outcomes_that_cannot_be_committed_are_given_back(database: Database) -> None:
    """After the set number of tries the chunk waits, uncounted, and the worker goes on; nothing was written."""
    flow = Flow(name="slow", handle=_handle, effects=_held_up)
    with connect(database.dsn) as connection:
        connection.execute("CREATE TABLE public.held ()")

    def open_ledger() -> Ledger:
        return Ledger.open(database.dsn, flow="slow", owner="test", ttl_s=5)

    stop, wake = threading.Event(), threading.Event()
    worker = Worker(
        flow=flow,
        context=FlowContext(flow="slow"),
        open_ledger=open_ledger,
        policy=WorkerPolicy(
            ttl_s=5,
            reconnect=RetryPolicy(max_attempts=2, base_s=0.01, cap_s=0.02),
            retry=RetryPolicy(max_attempts=3, base_s=30.0, cap_s=60.0),
        ),
        stop=stop,
        wake=wake,
    )
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        with connect(database.dsn) as connection, connect(database.dsn, autocommit=False) as other:
            other.execute("LOCK TABLE public.held")
            enqueue(connection, "slow", [NewRecord(b'{"n": 1}', "one")])

            def given_back() -> tuple[Any, ...] | None:
                return connection.execute(
                    "SELECT attempts, not_before > clock_timestamp() FROM rpa.chunk WHERE state = 'w'"
                ).fetchone()

            assert until(given_back, 20, "the chunk to wait") == (0, True)
            assert connection.execute("SELECT count(*) FROM rpa.result").fetchone() == (0,)
            assert thread.is_alive()
    finally:
        stop.set()
        wake.set()
        thread.join(10)
    assert not thread.is_alive()
