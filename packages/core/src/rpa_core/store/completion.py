"""The transaction that ends chunks: fence, results, effects, dead letters, what goes on, what is emitted."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import errors
from psycopg.rows import tuple_row

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.store import copy
from rpa_core.store.effects import IDLE_TIMEOUT, STATEMENT_TIMEOUT, Calls, EffectFailed, Effects, TransactionEnded
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.values import ChunkOutcome, DeadLetter

# What one record's values can cause: classes 22 and 23, a value too large for an index, a trigger that objects.
_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded, errors.RaiseException)
_MAX_KEY_BYTES = 2600  # of the 2,704 that a PostgreSQL btree entry can hold
_Row = tuple[ChunkOutcome, int, bytes]


class NotHeld(Exception):
    """Some chunks are not under this lease any more; `held` are those that are."""

    def __init__(self, held: set[int]) -> None:
        super().__init__()
        self.held = held


class _KeyAppeared(Exception):
    """Another transaction enqueued one of the keys just now: look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What is the same for every completion of a ledger.

    `known_key` is the flow's policy for a hand-on under a key that the other flow already has.
    """

    sql: Mapping[str, bytes]
    flow: str
    flow_id: int
    known_key: str
    checkpoints: Checkpoints

    def write(
        self,
        connection: psycopg.Connection[Any],
        lease_id: UUID,
        outcomes: Sequence[ChunkOutcome],
        effects: Effects | None,
    ) -> None:
        """End `outcomes` or nothing. Raises NotHeld, having written nothing, if any chunk is not under the lease.

        A record whose result or effect the database refuses, or whose effect raises, is found by halving inside
        savepoints and set aside, so that it stops no other; handlers are not run again for it. `refused` and `known`
        of each outcome say afterwards what came of that.
        """
        singly = effects is not None
        while True:
            try:
                self._attempt(connection, lease_id, outcomes, effects, singly=singly)
            except _REFUSALS:
                if singly:
                    raise
                singly = True
            except (TransactionEnded, _KeyAppeared):
                pass  # each is met once for a call or a key
            else:
                return

    def _attempt(
        self,
        connection: psycopg.Connection[Any],
        lease_id: UUID,
        outcomes: Sequence[ChunkOutcome],
        effects: Effects | None,
        *,
        singly: bool,
    ) -> None:
        calls: Calls | None = None
        try:
            with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                _fence(cursor, self.sql["fence"], lease_id, outcomes)
                handed_on, refused = self._handed_on(cursor, outcomes)
                rows = [
                    (outcome, record_id, data)
                    for outcome in outcomes
                    for record_id, data in outcome.results
                    if record_id not in refused
                ]
                if effects is not None and rows:
                    calls = effects.begin(connection)
                if singly:
                    refused |= _store_halving(cursor, rows, effects, calls)
                else:
                    _store(cursor, rows)
                if calls is not None:
                    calls.close()
                _count_refused(cursor, outcomes, refused)
                _dead_letters(cursor, self.flow_id, outcomes)
                _moved(cursor, self.sql["insert_chunk"], self.flow_id, outcomes)
                self._emit(connection, cursor, outcomes, handed_on, refused)
                self.checkpoints.reach(Point.RESULTS_WRITTEN)
        finally:
            if calls is not None:
                calls.leave()

    def _handed_on(
        self, cursor: psycopg.Cursor[Any], outcomes: Sequence[ChunkOutcome]
    ) -> tuple[dict[str, list[tuple[int, NewRecord]]], dict[int, tuple[str, str]]]:
        """(what goes to other flows: by flow, with the record it comes from; records refused for it: kind, reason)."""
        going: dict[str, list[tuple[int, NewRecord]]] = {}
        for outcome in outcomes:
            for flow, emits in outcome.emits.items():
                going.setdefault(flow, []).extend(emits)
        refused: dict[int, tuple[str, str]] = {}
        if self.known_key == "keep":
            return going, refused
        there = {flow: self._known(cursor, flow, (new.key for _, new in emits)) for flow, emits in going.items()}
        if self.known_key == "new key":
            own = {flow: [self._own_key(new.key, source) for source, new in emits] for flow, emits in going.items()}
            for flow, keys in own.items():
                there[flow] |= self._known(cursor, flow, keys)
        for flow, emits in going.items():
            for position, (source, new) in enumerate(emits):
                key = new.key
                if key in there[flow] and self.known_key == "new key":
                    key = self._own_key(key, source)
                    emits[position] = source, new._replace(key=key)
                if key is not None and (key in there[flow] or len(key.encode()) > _MAX_KEY_BYTES):
                    reason = f"flow {flow} already has a record with the key {new.key!r} (known_key={self.known_key!r})"
                    refused[source] = "rejected", reason
                elif key is not None:
                    there[flow].add(key)
        return going, refused

    def _own_key(self, key: str | None, source: int) -> str | None:
        return None if key is None else f"{key}~{self.flow}.{source}"

    def _known(self, cursor: psycopg.Cursor[Any], flow: str, keys: Iterable[str | None]) -> set[str]:
        """Which of the keys the flow has from other transactions."""
        asked = orjson.dumps([key for key in keys if key is not None])
        return {row[0] for row in cursor.execute(self.sql["known_keys"], {"flow": flow, "keys": asked.decode()})}

    def _emit(
        self,
        connection: psycopg.Connection[Any],
        cursor: psycopg.Cursor[Any],
        outcomes: Sequence[ChunkOutcome],
        going: Mapping[str, Sequence[tuple[int, NewRecord]]],
        refused: Mapping[int, object],
    ) -> None:
        for outcome in outcomes:
            outcome.known = {}
        for flow in sorted(going):
            emits = [(source, new) for source, new in going[flow] if source not in refused]
            if not enqueue(connection, flow, (new for _, new in emits)).duplicates:
                continue
            if self.known_key != "keep":
                raise _KeyAppeared
            known = self._known(cursor, flow, (new.key for _, new in emits))
            for outcome in outcomes:
                keys = [new.key for source, new in outcome.emits.get(flow, ()) if source not in refused and new.key]
                again = [key for key in keys if key in known or known.add(key)]  # type: ignore[func-returns-value]
                if again:
                    outcome.known[flow] = again


def _fence(cursor: psycopg.Cursor[Any], statement: bytes, lease_id: UUID, outcomes: Sequence[ChunkOutcome]) -> None:
    cursor.execute(
        statement,
        {
            "statement_timeout": STATEMENT_TIMEOUT,
            "idle_timeout": IDLE_TIMEOUT,
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


def _store(cursor: psycopg.Cursor[Any], rows: Sequence[_Row]) -> None:
    if rows:
        lines = [b"%d\t%d\t%d\t%s\n" % (number, end.chunk.id, end.chunk.period, data) for end, number, data in rows]
        with cursor.copy("COPY rpa.result (record_id, chunk_id, period, data) FROM STDIN") as stream:
            stream.write(copy.json_lines(lines))


def _store_halving(
    cursor: psycopg.Cursor[Any], rows: Sequence[_Row], effects: Effects | None, calls: Calls | None
) -> dict[int, tuple[str, str]]:
    """Store what can be stored; what cannot comes back with kind and reason."""
    refused: dict[int, tuple[str, str]] = {}
    savepoint = f"rpa_{secrets.token_hex(8)}"  # a name that no effect can mean

    def store(rows: Sequence[_Row]) -> None:
        ids = [number for _, number, _ in rows]
        why = effects.known(ids) if effects is not None else None
        if why is not None:
            why = f"the flow's effect failed: {why}"
        else:
            cursor.execute(f"SAVEPOINT {savepoint}".encode())
            try:
                _store(cursor, rows)
                if calls is not None:
                    calls.call(ids)
            except EffectFailed as error:
                why = f"the flow's effect failed: {error}"
            except _REFUSALS as error:
                why = f"PostgreSQL refused: {str(error).splitlines()[0]}"
            if why is not None:
                cursor.execute(f"ROLLBACK TO {savepoint}".encode())
            cursor.execute(f"RELEASE {savepoint}".encode())
        if why is None:
            return
        if len(rows) == 1:
            refused[ids[0]] = "unstorable", why.encode("utf-8", "replace").decode()
        else:
            middle = len(rows) // 2
            store(rows[:middle])
            store(rows[middle:])

    if rows:
        store(rows)
    return refused


def _count_refused(
    cursor: psycopg.Cursor[Any], outcomes: Sequence[ChunkOutcome], refused: Mapping[int, tuple[str, str]]
) -> None:
    """Refused records are dead letters of their chunk, and its counts follow."""
    for outcome in outcomes:
        chunk = outcome.chunk
        tries = dict(zip(chunk.ids or (), chunk.tries or (), strict=True)) if refused else {}
        outcome.refused = [
            DeadLetter(number, refused[number][0], tries.get(number, 0) + 1, (refused[number][1],))
            for number, _ in (outcome.results if refused else ())
            if number in refused
        ]
        if outcome.refused:
            cursor.execute(
                "UPDATE rpa.chunk_done SET n_ok = n_ok - %(n)s, n_dead = n_dead + %(n)s"
                " WHERE period = %(period)s AND id = %(id)s",
                {"n": len(outcome.refused), "period": chunk.period, "id": chunk.id},
            )


def _dead_letters(cursor: psycopg.Cursor[Any], flow_id: int, outcomes: Sequence[ChunkOutcome]) -> None:
    rows = [(letter, end.chunk.period) for end in outcomes for letter in (*end.dead, *end.refused)]
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
