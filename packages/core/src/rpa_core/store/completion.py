"""The transaction that ends chunks: fence, results, effects, dead letters, what goes on, what is emitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.store import copy
from rpa_core.store.intake import enqueue
from rpa_core.store.values import ChunkOutcome, DeadLetter

Effects = Callable[[psycopg.Connection[Any], Sequence[int]], None]
# What one record's values can cause: classes 22 and 23, a value too large for an index, a trigger that objects.
_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded, errors.RaiseException)
_STATEMENT_TIMEOUT = "20s"
_IDLE_TIMEOUT = "10s"


class EffectFailed(Exception):
    """The flow's effects raised something else than an error of PostgreSQL."""


class NotHeld(Exception):
    """Some chunks are not under this lease any more; `held` are those that are."""

    def __init__(self, held: set[int]) -> None:
        super().__init__()
        self.held = held


def write(
    connection: psycopg.Connection[Any],
    sql: Mapping[str, bytes],
    lease_id: UUID,
    flow_id: int,
    outcomes: Sequence[ChunkOutcome],
    effects: Effects | None,
    checkpoints: Checkpoints,
) -> None:
    """End `outcomes` or nothing. Raises NotHeld, having written nothing, if any chunk is not under the lease.

    A record whose result or effect the database refuses, or whose effect raises, is found by halving inside
    savepoints and set aside, so that it stops no other; handlers are not run again for it.
    """
    try:
        _attempt(connection, sql, lease_id, flow_id, outcomes, effects, checkpoints, singly=False)
    except (*_REFUSALS, EffectFailed):
        _attempt(connection, sql, lease_id, flow_id, outcomes, effects, checkpoints, singly=True)


def _attempt(
    connection: psycopg.Connection[Any],
    sql: Mapping[str, bytes],
    lease_id: UUID,
    flow_id: int,
    outcomes: Sequence[ChunkOutcome],
    effects: Effects | None,
    checkpoints: Checkpoints,
    *,
    singly: bool,
) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        _fence(cursor, sql["fence"], lease_id, outcomes)
        refused: list[DeadLetter] = []
        if singly:
            for outcome in outcomes:
                refused += _store_halving(connection, outcome, effects)
        else:
            _store(connection, outcomes, effects)
        _dead_letters(cursor, flow_id, outcomes, refused)
        _moved(cursor, sql["insert_chunk"], flow_id, outcomes)
        _emits(connection, outcomes, {letter.record_id for letter in refused})
        checkpoints.reach(Point.RESULTS_WRITTEN)


def _fence(cursor: psycopg.Cursor[Any], statement: bytes, lease_id: UUID, outcomes: Sequence[ChunkOutcome]) -> None:
    cursor.execute(
        statement,
        {
            "statement_timeout": _STATEMENT_TIMEOUT,
            "idle_timeout": _IDLE_TIMEOUT,
            "lease": lease_id,
            "ids": [outcome.chunk.id for outcome in outcomes],
            "epochs": [outcome.chunk.epoch for outcome in outcomes],
            "ok": [len(outcome.results) for outcome in outcomes],
            "moved": [outcome.n_moved for outcome in outcomes],
            "dead": [outcome.n_dead for outcome in outcomes],
        },
    )
    held = {row[0] for row in cursor.fetchall()}
    if len(held) != len(outcomes):
        raise NotHeld(held)


def _store(connection: psycopg.Connection[Any], outcomes: Sequence[ChunkOutcome], effects: Effects | None) -> None:
    lines: list[bytes] = []
    for outcome in outcomes:
        chunk = outcome.chunk
        end = b"\t%d\t%d\t" % (chunk.id, chunk.period)
        lines += [b"%d%s%s\n" % (record_id, end, data) for record_id, data in outcome.results]
    if lines:
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY rpa.result (record_id, chunk_id, period, data) FROM STDIN") as stream,
        ):
            stream.write(copy.json_lines(lines))
        if effects is not None:
            ids = [record_id for outcome in outcomes for record_id, _ in outcome.results]
            try:
                effects(connection, ids)
            except psycopg.Error:
                raise
            except Exception as error:  # the boundary between a flow's code and the other records
                raise EffectFailed(f"{type(error).__name__}: {error}") from error


def _store_halving(
    connection: psycopg.Connection[Any], outcome: ChunkOutcome, effects: Effects | None
) -> list[DeadLetter]:
    """Store what can be stored; what the database refuses comes back as dead letters, and the counts follow."""
    refused: list[DeadLetter] = []

    def store(results: list[tuple[int, bytes]]) -> None:
        part = ChunkOutcome(chunk=outcome.chunk, results=results)
        try:
            with connection.transaction():
                _store(connection, [part], effects)
        except (*_REFUSALS, EffectFailed) as error:
            if len(results) == 1:
                who = "the flow's effect failed" if isinstance(error, EffectFailed) else "PostgreSQL refused"
                said = str(error).splitlines()[0].encode("utf-8", "replace").decode()
                refused.append(DeadLetter(results[0][0], "unstorable", 1, (f"{who}: {said}",)))
            else:
                middle = len(results) // 2
                store(results[:middle])
                store(results[middle:])

    if outcome.results:
        store(outcome.results)
    if refused:
        connection.execute(
            "UPDATE rpa.chunk_done SET n_ok = n_ok - %(n)s, n_dead = n_dead + %(n)s"
            " WHERE period = %(period)s AND id = %(id)s",
            {"n": len(refused), "period": outcome.chunk.period, "id": outcome.chunk.id},
        )
    return refused


def _dead_letters(
    cursor: psycopg.Cursor[Any],
    flow_id: int,
    outcomes: Sequence[ChunkOutcome],
    refused: Sequence[DeadLetter],
) -> None:
    periods = (
        {record_id: outcome.chunk.period for outcome in outcomes for record_id, _ in outcome.results} if refused else {}
    )
    rows = [(letter, outcome.chunk.period) for outcome in outcomes for letter in outcome.dead]
    rows += [(letter, periods[letter.record_id]) for letter in refused]
    if not rows:
        return
    with cursor.copy("COPY rpa.dead_letter (record_id, period, flow, kind, tries, reasons) FROM STDIN") as stream:
        for letter, period in rows:
            reasons = [reason.replace("\x00", "\\0") for reason in letter.reasons]
            stream.write_row((letter.record_id, period, flow_id, letter.kind, letter.tries, reasons))


def _moved(cursor: psycopg.Cursor[Any], statement: bytes, flow_id: int, outcomes: Sequence[ChunkOutcome]) -> None:
    rows = [
        {
            "flow": flow_id,
            "period": outcome.chunk.period,
            "lo": new.lo,
            "hi": new.hi,
            "n": new.n,
            "ids": list(new.ids) if new.ids is not None else None,
            "tries": list(new.tries) if new.tries is not None else None,
            "state": "w" if new.delay_s > 0 else "r",
            "delay_s": new.delay_s,
            "attempts": new.attempts,
            "parent": outcome.chunk.id,
            "size_bytes": new.size_bytes,
        }
        for outcome in outcomes
        for new in outcome.moved
    ]
    if rows:
        cursor.executemany(statement, rows)


def _emits(connection: psycopg.Connection[Any], outcomes: Sequence[ChunkOutcome], refused: set[int]) -> None:
    flows = sorted({flow for outcome in outcomes for flow in outcome.emits})
    for flow in flows:
        enqueue(
            connection,
            flow,
            (record for outcome in outcomes for source, record in outcome.emits.get(flow, ()) if source not in refused),
        )
