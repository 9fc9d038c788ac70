"""Planted defects: the store with one idea taken away. The machine must find each of them.

A mutant of a statement is made by replacing a piece of it, and the piece must be there: a mutant that no longer
differs from the real thing fails by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import psycopg

from rpa_core.store import completion
from rpa_core.store.connect import connect
from rpa_core.store.intake import Enqueued, NewRecord
from rpa_core.store.ledger import Effects, Ledger
from rpa_core.store.values import ChunkOutcome, Claim

from .ledger_machine import LedgerMachine
from .ledger_parts import FLOW, Engine

_FENCE = b"c.lease_id = %(lease)s AND c.epoch = g.epoch AND c.state = 'l'"


def _replaced(ledger: Ledger, name: str, old: bytes, new: bytes) -> dict[str, bytes]:
    sql = ledger._sql
    if old not in sql[name]:
        raise ValueError(f"statement {name} has no {old!r} any more: plant this mutant anew")
    return {**sql, name: sql[name].replace(old, new)}


class _NoFence(Ledger):
    """A completion ends the chunk it names, whoever holds it now."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self._sql = _replaced(self, "fence", _FENCE, b"c.state = 'l'")


class _NobodyLooks(Ledger):
    """The fence stands, and its answer is not looked at: a chunk that is gone completes like any other."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        ended = b"), ended AS (INSERT INTO rpa.chunk_done"
        self._sql = _replaced(self, "fence", b")\nINSERT INTO rpa.chunk_done", ended)
        self._sql = _replaced(self, "fence", b"FROM held RETURNING id", b"FROM held RETURNING id) SELECT id FROM given")


class _AttemptsAsToken(Ledger):
    """The count of attempts stands for the lease; a release takes it back, so that two claims carry the same."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self._sql = _replaced(self, "fence", _FENCE, b"c.attempts = g.epoch AND c.state = 'l'")

    def complete(self, claim: Claim, outcomes: Sequence[ChunkOutcome], effects: Effects | None = None) -> set[int]:
        """As the real one, with the other token."""
        for outcome in outcomes:
            outcome.chunk = outcome.chunk._replace(epoch=outcome.chunk.attempts)
        return super().complete(claim, outcomes, effects)


class NoFence(Engine):
    """(a) Neither lease nor epoch is asked for."""

    ledger = _NoFence


class NobodyLooks(Engine):
    """(a) again: asked for, and ignored."""

    ledger = _NobodyLooks


class AttemptsAsToken(Engine):
    """(b)"""

    ledger = _AttemptsAsToken


class ResultsBesideTheTransaction(Engine):
    """(c) Results are written and committed by a transaction of their own, before the chunk's end commits."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While this is open."""
        store = completion._store

        def elsewhere(
            connection: psycopg.Connection[Any], outcomes: Sequence[ChunkOutcome], effects: Effects | None
        ) -> None:
            with connect(connection.info.dsn) as other, other.transaction():
                store(other, outcomes, effects)

        with mock.patch.object(completion, "_store", elsewhere):
            yield


class CutByMaxId(Engine):
    """(d) Records come without chunks; a cutter makes chunks of everything up to the highest id it sees.

    It runs at each commit, so that the records it sees are never without one.
    """

    def enqueue(self, connection: psycopg.Connection[Any], records: Iterable[NewRecord], chunk_size: int) -> Enqueued:
        """Records alone."""
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
            {"flow": FLOW, "keys": [r.key for r in given], "payloads": [r.payload.decode() for r in given]},
        ).fetchone()
        assert row is not None
        return Enqueued(row[0], len(given) - row[0])

    def committed(self, connection: psycopg.Connection[Any]) -> None:
        """Cut."""
        connection.execute(
            """
            WITH cut AS (
                INSERT INTO rpa.chunk (flow, period, lo, hi, n)
                SELECT flow, period, min(id), max(id), count(*) FROM rpa.record r
                WHERE id > (SELECT last FROM machine.cut)
                  AND NOT EXISTS (SELECT FROM rpa.dead_letter d WHERE d.record_id = r.id)
                GROUP BY flow, period, (id - 1) / 1000
                RETURNING hi
            ) UPDATE machine.cut SET last = greatest(last, (SELECT max(hi) FROM cut))
            """
        )


class Hunting(LedgerMachine):
    """The machine without the steps that no planted defect is about, so that it comes to the others sooner."""

    enqueue_unreadable = note_progress = put_back_dead = promote = rotate = reconnect = None  # type: ignore[assignment]  # takes the rules out


class NoLateCommits(Hunting):
    """Also without the one step that tells a cutter by ids from chunks written with their records."""

    enqueue_and_wait = None  # type: ignore[assignment]  # takes the rule out
