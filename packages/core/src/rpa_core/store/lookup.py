"""What people, monitors and the intake ask of the ledger; nothing here blocks a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import orjson
import psycopg

from rpa_core.store.sql import statements

RecordState = Literal["ready", "waiting", "leased", "done", "set_aside"]
_STATES: dict[str, RecordState] = {"r": "ready", "w": "waiting", "l": "leased"}
_MOST_CHUNKS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDepth:
    """Records of a flow by state; a count over 20,000 chunks is a lower bound. `oldest_age_s`: not yet finished."""

    ready: int = 0
    waiting: int = 0
    leased: int = 0
    dead: int = 0
    oldest_age_s: float = 0.0
    paused: bool = False

    @property
    def unfinished(self) -> int:
        """Records that have no outcome yet."""
        return self.ready + self.waiting + self.leased


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStatus:
    """Where one record is, and its outcome if it has one."""

    flow: str
    key: str
    record_id: int
    state: RecordState
    attempts: int | None
    result: Any
    reasons: tuple[str, ...]
    enqueued_at: datetime
    finished_at: datetime | None


class DeadLetterRow(NamedTuple):
    """A record that was set aside, as people see it; `payload` is JSON text."""

    record_id: int
    key: str | None
    kind: str
    tries: int
    reasons: list[str]
    at: datetime
    payload: bytes


def flow_depths(connection: psycopg.Connection[Any]) -> dict[str, FlowDepth]:
    """Every flow the database knows, with its depth."""
    raw: dict[str, dict[str, Any]] = {}
    for name, paused, state, n, oldest_s, dead in connection.execute(
        statements("lookup")["depths"], {"most": _MOST_CHUNKS}
    ):
        depth = raw.setdefault(name, {"dead": dead, "paused": paused, "oldest_age_s": 0.0})
        if state is not None:
            depth[_STATES[state]] = int(n)
            depth["oldest_age_s"] = max(depth["oldest_age_s"], oldest_s)
    return {name: FlowDepth(**depth) for name, depth in raw.items()}


def done_counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Results per flow, exact; reads all results."""
    return {name: int(n) for name, n in connection.execute(statements("lookup")["done_counts"])}


def record_status(connection: psycopg.Connection[Any], flow: str, key: str) -> RecordStatus | None:
    """The record of `flow` under `key`, or None if there is none."""
    sql = statements("lookup")
    row = connection.execute(sql["record"], {"flow": flow, "key": key}, binary=True).fetchone()
    if row is None:
        return None
    record_id, _period, enqueued_at, result, _chunk, done_at, kind, tries, reasons, set_aside_at = row
    state: RecordState
    attempts: int | None
    if result is not None:
        state, attempts = "done", None
    elif kind is not None:
        state, attempts = "set_aside", int(tries)
    else:
        found = connection.execute(sql["chunk_of"], {"flow": flow, "id": record_id}).fetchone()
        state, attempts = (_STATES[found[0]], int(found[1])) if found else ("ready", 0)
    return RecordStatus(
        flow=flow,
        key=key,
        record_id=record_id,
        state=state,
        attempts=attempts,
        result=orjson.loads(result) if result is not None else None,
        reasons=tuple(reasons or ()),
        enqueued_at=enqueued_at,
        finished_at=done_at or set_aside_at,
    )


def dead_letters(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    kinds: Sequence[str] | None = None,
    most: int = 100,
    after: int = 0,
) -> Iterator[DeadLetterRow]:
    """Up to `most` dead letters with record ids beyond `after`."""
    parameters = {"flow": flow, "kinds": list(kinds) if kinds else None, "most": most, "after": after}
    with connection.cursor(binary=True) as cursor:
        for row in cursor.execute(statements("lookup")["dead_letters"], parameters):
            yield DeadLetterRow._make(row)


def put_back(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    keys: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
) -> int:
    """Queue dead letters again (all of the flow's, or the chosen ones); returns how many. Commits as it goes.

    What could not be read at intake stays: it has to be loaded again, corrected.
    """
    sql = statements("lookup")
    chosen = list(ids) if ids is not None else None
    if keys is not None:
        rows = connection.execute(sql["ids_of_keys"], {"flow": flow, "keys": list(keys)})
        chosen = [*(chosen or []), *(row[0] for row in rows)]
    called_at = _now(connection)
    total = 0
    while True:
        row = connection.execute(
            sql["put_back"],
            {"flow": flow, "kinds": list(kinds) if kinds else None, "ids": chosen, "called_at": called_at},
        ).fetchone()
        if not row or not row[0]:
            return total
        total += int(row[0])


def set_paused(connection: psycopg.Connection[Any], flow: str, paused: bool) -> None:
    """Let no worker claim from a flow, or let them again."""
    connection.execute("UPDATE rpa.flow SET paused = %s WHERE id = rpa.flow_id(%s)", (paused, flow))


def requeue(connection: psycopg.Connection[Any], flow: str) -> int:
    """Make every record that waits for its next try ready now; returns how many. Commits as it goes."""
    called_at = _now(connection)
    total = 0
    while True:
        row = connection.execute(statements("lookup")["requeue"], {"flow": flow, "called_at": called_at}).fetchone()
        if not row or not row[0]:
            return total
        total += int(row[0])


def _now(connection: psycopg.Connection[Any]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return cast("datetime", row[0])
