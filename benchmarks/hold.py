"""A flow whose handler never comes back, so that a lease stays to be looked at."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import psycopg

from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.waits import until

SPEC = "benchmarks.hold:FLOW"


def handle(record: Record, context: FlowContext) -> Outcome:
    """Wait until the process is killed."""
    threading.Event().wait()
    return Done()


FLOW = Flow(name="hold", handle=handle)


class Lease(NamedTuple):
    """Who holds the record's chunk, and since when by the database's clock (seconds)."""

    owner: str
    epoch: int
    claimed_s: float


def enqueue_one(connection: psycopg.Connection[Any]) -> None:
    """One record, committed."""
    with connection.transaction():
        enqueue(connection, "hold", [NewRecord(b"{}")])


def wait_for_lease(connection: psycopg.Connection[Any], *, ttl_s: float, epoch: int, timeout_s: float) -> Lease:
    """The lease of claim number `epoch`, as it was claimed: to be asked for before its first renewal."""
    found = until(
        lambda: connection.execute(
            "SELECT owner, epoch, extract(epoch FROM lease_until)::float8 - %s FROM rpa.chunk"
            " WHERE state = 'l' AND epoch >= %s",
            (ttl_s, epoch),
        ).fetchone(),
        timeout_s,
        f"claim number {epoch}",
        every_s=0.005,
    )
    assert found is not None
    return Lease(*found)


def now_s(connection: psycopg.Connection[Any]) -> float:
    """The database's clock, in seconds."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])
