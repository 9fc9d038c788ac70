"""Short ways to put records in, lease them and end them, for the tests of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from rpa_core.checkpoints import Checkpoints
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import ChunkOutcome, Claim, DeadLetter, NewChunk

FLOW = "steps"
TTL_S = 0.05  # the grace after a start of the server is one TTL, and no test may wait for it
Answer = TypeVar("Answer")


def records(n: int, *, prefix: str | None = "k", first: int = 0) -> list[NewRecord]:
    """Records that count; with keys `prefix`0, `prefix`1, ... unless that is None."""
    numbers = range(first, first + n)
    return [NewRecord(b'{"number": %d}' % number, prefix and f"{prefix}{number}") for number in numbers]


def fill(dsn: str, n: int, *, chunk_size: int = 1000, prefix: str | None = "k") -> None:
    """Commit `n` records."""
    with connect(dsn, autocommit=False) as connection:
        enqueue(connection, FLOW, records(n, prefix=prefix), chunk_size=chunk_size)


def open_ledger(dsn: str, owner: str = "worker", *, checkpoints: Checkpoints | None = None) -> Ledger:
    """A ledger whose leases hold for a day from the claim on only if `stretch` is called."""
    return Ledger.open(dsn, flow=FLOW, owner=owner, ttl_s=TTL_S, checkpoints=checkpoints)


def end(
    ledger: Ledger,
    claim: Claim,
    *,
    dead: str | None = None,
    retry_s: float | None = None,
    data: bytes = b'{"ok": true}',
) -> set[int]:
    """Complete a claim: every record done, or set aside as `dead`, or put off for `retry_s` seconds."""
    return ledger.complete(claim, ends(ledger, claim, dead=dead, retry_s=retry_s, data=data))


def ends(
    ledger: Ledger,
    claim: Claim,
    *,
    dead: str | None = None,
    retry_s: float | None = None,
    data: bytes = b'{"ok": true}',
) -> list[ChunkOutcome]:
    """What `end` completes with."""
    outcomes = []
    for chunk, content in zip(claim.chunks, ledger.read(claim), strict=True):
        ids = [row.id for row in content.records]
        outcome = ChunkOutcome(chunk=chunk)
        if dead is not None:
            outcome.dead = [DeadLetter(number, dead, 1, (f"{dead}: no good", "at all")) for number in ids]
        elif retry_s is not None:
            outcome.moved = [NewChunk(min(ids), max(ids), len(ids), ids, [1] * len(ids), retry_s)]
        else:
            outcome.results = [(number, data) for number in ids]
        outcomes.append(outcome)
    return outcomes


def take(ledger: Ledger, *, records: int = 1_000_000, chunks: int = 1000) -> Claim:
    """A claim that must succeed."""
    claim = ledger.claim(records=records, chunks=chunks)
    assert claim is not None
    return claim


def run_out(connection: psycopg.Connection[Any]) -> None:
    """Let every lease run out."""
    connection.execute("UPDATE rpa.chunk SET lease_until = clock_timestamp() - interval '1 hour' WHERE state = 'l'")


def one(connection: psycopg.Connection[Any], query: str, parameters: Sequence[Any] | None = None) -> Any:
    """The one value that a query answers."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def together(*calls: Callable[[], Answer]) -> list[Answer]:
    """Run all calls at the same moment, each in a thread; their answers in order, or the first error."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Answer]) -> Answer:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
