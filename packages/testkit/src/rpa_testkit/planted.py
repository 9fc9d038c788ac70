"""Known defects of the engine, to be planted on purpose: who tests with these tools can see that they find something.

Each takes one idea away from the ledger. `python -m rpa_testkit.planted FLOW_SPEC` runs a worker with the defect that
RPA_TESTKIT_PLANTED names; `cut-by-max-id` is one of whoever enqueues, not of the worker.

A mutant of a statement is made by replacing a piece of it, and the piece must be there: a mutant that no longer differs
from the real thing fails by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import mock

import psycopg

from rpa_core.store import completion
from rpa_core.store.connect import connect
from rpa_core.store.effects import Effects
from rpa_core.store.intake import Enqueued, NewRecord
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import ChunkOutcome, Claim
from rpa_testkit.scenario.model import Scenario

VARIABLE = "RPA_TESTKIT_PLANTED"
_FENCE = b"c.lease_id = %(lease)s AND c.epoch = g.epoch AND c.state = 'l'"


def _replaced(ledger: Ledger, name: str, old: bytes, new: bytes) -> dict[str, bytes]:
    sql = ledger._sql
    if old not in sql[name]:
        raise ValueError(f"statement {name} has no {old!r} any more: plant this mutant anew")
    return {**sql, name: sql[name].replace(old, new)}


class NoFence(Ledger):
    """A completion ends the chunk it names, whoever holds it now."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self._sql = _replaced(self, "fence", _FENCE, b"c.state = 'l'")


class NobodyLooks(Ledger):
    """The fence stands, and its answer is not looked at: a chunk that is gone completes like any other."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        ended = b"), ended AS (INSERT INTO rpa.chunk_done"
        self._sql = _replaced(self, "fence", b")\nINSERT INTO rpa.chunk_done", ended)
        self._sql = _replaced(self, "fence", b"FROM held RETURNING id", b"FROM held RETURNING id) SELECT id FROM given")


class AttemptsAsToken(Ledger):
    """The count of attempts stands for the lease; a release takes it back, so that two claims carry the same."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self._sql = _replaced(self, "fence", _FENCE, b"c.attempts = g.epoch AND c.state = 'l'")

    def complete(
        self,
        claim: Claim,
        outcomes: Sequence[ChunkOutcome],
        effects: Effects | None = None,
        known_key: str = "keep",
    ) -> set[int]:
        """As the real one, with the other token."""
        for outcome in outcomes:
            outcome.chunk = outcome.chunk._replace(epoch=outcome.chunk.attempts)
        return super().complete(claim, outcomes, effects, known_key)


class UncountedTakeover(AttemptsAsToken):
    """The same, and a takeover is no attempt: old and new holder carry the same token.

    A worker never completes what it gave back, so in a running system this is how such a token is seen to fail.
    """

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        counted = b"SET epoch = epoch + 1, attempts = attempts + 1, lease_id"
        self._sql = _replaced(self, "reclaim", counted, b"SET epoch = epoch + 1, lease_id")


@contextmanager
def results_beside_the_transaction() -> Iterator[None]:
    """Results are written and committed by a transaction of their own, before the chunk's end commits."""
    store = completion._store

    def elsewhere(cursor: psycopg.Cursor[Any], rows: Sequence[tuple[ChunkOutcome, int, bytes]]) -> None:
        with connect(cursor.connection.info.dsn) as other, other.transaction(), other.cursor() as own:
            store(own, rows)

    with mock.patch.object(completion, "_store", elsewhere):
        yield


def enqueue_without_chunks(connection: psycopg.Connection[Any], flow: str, records: Iterable[NewRecord]) -> Enqueued:
    """Records alone: `cut` is to make their chunks, from everything up to the highest id that it sees."""
    given = list(records)
    row = connection.execute(
        """
        WITH place AS MATERIALIZED (
            SELECT rpa.flow_id(%(flow)s) AS flow, rpa.open_period() AS period, nextval('rpa.record_block') AS first
        ), written AS (
            INSERT INTO rpa.record (id, period, flow, key, payload)
            SELECT place.first + g.ord - 1, place.period, place.flow, g.key, g.payload::json
            FROM place, unnest(%(keys)s::text[], %(payloads)s::text[]) WITH ORDINALITY AS g (key, payload, ord)
            WHERE NOT EXISTS (SELECT FROM rpa.record r WHERE r.flow = place.flow AND r.key = g.key)
            ON CONFLICT DO NOTHING RETURNING 1
        ) SELECT count(*) FROM written
        """,
        {"flow": flow, "keys": [r.key for r in given], "payloads": [r.payload.decode() for r in given]},
    ).fetchone()
    assert row is not None
    return Enqueued(row[0], len(given) - row[0])


def cut(connection: psycopg.Connection[Any], table: str) -> None:
    """Make chunks of the records beyond the highest id cut before, which stands in `table (last bigint)`."""
    connection.execute(
        # A table's name, given by a test.
        f"""
        WITH cut AS (
            INSERT INTO rpa.chunk (flow, period, lo, hi, n)
            SELECT flow, period, min(id), max(id), count(*) FROM rpa.record r
            WHERE id > (SELECT last FROM {table})
              AND NOT EXISTS (SELECT FROM rpa.dead_letter d WHERE d.record_id = r.id)
            GROUP BY flow, period, (id - 1) / 1000
            RETURNING hi
        ) UPDATE {table} SET last = greatest(last, (SELECT max(hi) FROM cut))
        """  # noqa: S608 - see above
    )


@contextmanager
def _cut_by_max_id() -> Iterator[None]:
    """Producers enqueue without chunks; each cuts when it comes back for its next transaction."""

    def planted(connection: psycopg.Connection[Any], flow: str, records: Iterable[NewRecord]) -> Enqueued:
        cutter = "public.testkit_cut"
        with connect(connection.info.dsn) as other, other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(7)")
            other.execute(f"CREATE TABLE IF NOT EXISTS {cutter} (last bigint NOT NULL)")
            other.execute(
                f"INSERT INTO {cutter} SELECT 0 WHERE NOT EXISTS (SELECT FROM {cutter})"  # noqa: S608 - ours
            )
            cut(other, cutter)
        return enqueue_without_chunks(connection, flow, records)

    with mock.patch("rpa_testkit.runner.workload.enqueue", planted):
        yield


def _ledger(mutant: type[Ledger]) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch("rpa_core.runtime.stores.Ledger", mutant)


IN_WORKERS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = MappingProxyType(
    {
        "no-fence": _ledger(NoFence),
        "nobody-looks": _ledger(NobodyLooks),
        "uncounted-takeover": _ledger(UncountedTakeover),
        "results-beside-the-transaction": results_beside_the_transaction,
    }
)
IN_PRODUCERS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = MappingProxyType(
    {"cut-by-max-id": _cut_by_max_id}
)


@contextmanager
def planting(scenario: Scenario, name: str) -> Iterator[Scenario]:
    """The scenario with a defect in its workers, or in its producers while this is open; ValueError if unknown."""
    if name in IN_PRODUCERS:
        with IN_PRODUCERS[name]():
            yield scenario
        return
    if name not in IN_WORKERS:
        raise ValueError(f"no defect is called {name!r}; there are {', '.join((*IN_WORKERS, *IN_PRODUCERS))}")
    services = tuple(
        replace(service, launcher="rpa_testkit.planted", env={**service.env, VARIABLE: name})
        for service in scenario.topology.services
    )
    yield replace(scenario, topology=replace(scenario.topology, services=services))


def main(arguments: list[str]) -> int:
    """Run a worker with the defect named by the environment."""
    import rpa_core.runtime.stores  # noqa: F401 - what is patched must be there
    from rpa_testkit import worker

    name = os.environ.get(VARIABLE, "")
    if name not in IN_WORKERS:
        print(f"{VARIABLE} is {name!r}; it must be one of {', '.join(IN_WORKERS)}", file=sys.stderr)
        return 64
    with IN_WORKERS[name]():
        return worker.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
