"""What people, monitors and the intake ask of the ledger; nothing here blocks a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import psycopg

from rpa_core.store.sql import statements

RecordState = Literal["ready", "waiting", "leased", "done", "set_aside", "discarded", "unknown"]
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
    """Where one record is, and its outcome if it has one; `result_json` is the result's JSON text as it is stored.

    `unknown`: no result, no dead letter and no chunk has it; `put_back` by its id queues it.
    """

    flow: str
    key: str | None
    record_id: int
    state: RecordState
    attempts: int | None
    result_json: bytes | None
    kind: str | None
    reasons: tuple[str, ...]
    enqueued_at: datetime
    finished_at: datetime | None

    @property
    def result(self) -> Any:
        """The result, decoded; None where there is none."""
        return json.loads(self.result_json) if self.result_json is not None else None


class DeadLetterRow(NamedTuple):
    """A record that was set aside, as people see it; `payload` is JSON text."""

    record_id: int
    key: str | None
    kind: str
    tries: int
    reasons: list[str]
    at: datetime
    payload: bytes


class ActOnRecord(NamedTuple):
    """What was done with a record by a command: `correct` has what it was before, `payload` as JSON text."""

    at: datetime
    act: str
    by: str
    reason: str | None
    kind: str
    reasons: list[str] | None
    payload: bytes | None
    new_key: str | None


class FoundRecord(NamedTuple):
    """A record and where it is stored; `flow_id` is its flow's."""

    record_id: int
    period: int
    flow_id: int
    key: str | None
    enqueued_at: datetime


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


def discarded_counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Discarded records per flow that are still kept, exact; reads all dead letters."""
    return {name: int(n) for name, n in connection.execute(statements("lookup")["discarded_counts"])}


def used_flows(connection: psycopg.Connection[Any]) -> set[str]:
    """Flows that have records, had some within the retention, or are paused."""
    return {name for (name,) in connection.execute(statements("lookup")["used_flows"])}


def find(
    connection: psycopg.Connection[Any], flow: str, *, keys: Sequence[str] | None = None, ids: Sequence[int] = ()
) -> list[FoundRecord]:
    """The records of `flow` under `keys`, or of these `ids`."""
    sql = statements("lookup")
    with connection.cursor(binary=True) as cursor:
        if keys is not None:
            cursor.execute(sql["find_keys"], {"flow": flow, "keys": list(keys)})
        else:
            cursor.execute(sql["find_ids"], {"flow": flow, "ids": list(ids)})
        return [FoundRecord._make(row) for row in cursor]


def record_status(connection: psycopg.Connection[Any], flow: str, key: str) -> RecordStatus | None:
    """The record of `flow` under `key`, or None if there is none."""
    found = find(connection, flow, keys=[key])
    return status_of(connection, flow, found[0]) if found else None


def status_of(connection: psycopg.Connection[Any], flow: str, found: FoundRecord) -> RecordStatus:
    """Where a record is, by one snapshot of the database."""
    where = {"period": found.period, "id": found.record_id, "flow_id": found.flow_id}
    row = connection.execute(statements("lookup")["place"], where, binary=True).fetchone()
    assert row is not None
    result, done_at, kind, tries, reasons, set_aside_at, discarded, chunk = row
    state: RecordState = "unknown"
    attempts: int | None = None
    if result is not None:
        state = "done"
    elif kind is not None:
        state, attempts = ("set_aside" if discarded is None else "discarded"), int(tries)
    elif chunk is not None:
        state, attempts = _STATES[chunk[0]], int(chunk[1])
    return RecordStatus(
        flow=flow,
        key=found.key,
        record_id=found.record_id,
        state=state,
        attempts=attempts,
        result_json=result,
        kind=kind,
        reasons=tuple(reasons or ()),
        enqueued_at=found.enqueued_at,
        finished_at=done_at or set_aside_at,
    )


def payload_of(connection: psycopg.Connection[Any], found: FoundRecord) -> bytes | None:
    """A record's payload as JSON text; None if its period was dropped meanwhile."""
    where = {"period": found.period, "id": found.record_id}
    row = connection.execute(statements("lookup")["payload"], where, binary=True).fetchone()
    return row[0] if row else None


def acts_of(connection: psycopg.Connection[Any], found: FoundRecord) -> list[ActOnRecord]:
    """What people did with a record, in order."""
    where = {"period": found.period, "id": found.record_id}
    with connection.cursor(binary=True) as cursor:
        return [ActOnRecord._make(row) for row in cursor.execute(statements("lookup")["acts_of_record"], where)]


def dead_letters(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    kinds: Sequence[str] | None = None,
    most: int = 100,
    after: int = 0,
    discarded: bool = False,
) -> Iterator[DeadLetterRow]:
    """Up to `most` dead letters with record ids beyond `after`: those that want attention, or the `discarded` ones."""
    parameters = {"flow": flow, "kinds": list(kinds) if kinds else None, "most": most, "after": after}
    statement = statements("lookup")["discarded_letters" if discarded else "dead_letters"]
    with connection.cursor(binary=True) as cursor:
        for row in cursor.execute(statement, parameters):
            yield DeadLetterRow._make(row)


def put_back(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    keys: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    discarded: bool = False,
) -> int:
    """Queue dead letters again (all of the flow's, or the chosen ones); returns how many. Commits as it goes.

    What could not be read at intake stays: it has to be corrected. `discarded`: those that were discarded instead.
    """
    sql = statements("lookup")
    chosen = list(ids) if ids is not None else None
    if keys is not None:
        chosen = [*(chosen or []), *(record.record_id for record in find(connection, flow, keys=keys))]
    parameters = {
        "flow": flow,
        "kinds": list(kinds) if kinds else None,
        "ids": chosen,
        "called_at": _now(connection),
        "discarded": discarded,
    }
    total = 0
    while True:
        row = connection.execute(sql["put_back"], parameters).fetchone()
        if not row or not row[0]:
            return total
        total += int(row[0])


def queue_lost(connection: psycopg.Connection[Any], flow: str, ids: Sequence[int]) -> list[int]:
    """Queue those of these records that are in state `unknown`; returns their ids. Two callers queue each once."""
    with connection.transaction():
        connection.execute("SELECT 1 FROM rpa.flow WHERE name = %s FOR UPDATE", (flow,))
        return [
            row[0]
            for first in range(0, len(ids), 1000)
            for row in connection.execute(
                statements("lookup")["queue_lost"], {"flow": flow, "ids": list(ids[first : first + 1000])}
            )
        ]


def set_paused(connection: psycopg.Connection[Any], flow: str, paused: bool) -> None:
    """Let no worker claim from a flow, or let them again; a flow without records is known from then on."""
    # Two statements: one would not see the row that its own call of rpa.flow_id makes.
    row = connection.execute("SELECT rpa.flow_id(%s)", (flow,)).fetchone()
    assert row is not None
    connection.execute("UPDATE rpa.flow SET paused = %s WHERE id = %s", (paused, row[0]))


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
    # In binary: the text depends on DateStyle, which role and database can set.
    row = connection.execute("SELECT clock_timestamp()", binary=True).fetchone()
    assert row is not None
    return cast("datetime", row[0])
