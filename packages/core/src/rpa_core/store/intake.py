"""Records into the ledger, on the caller's transaction: they exist when the caller commits, with their chunks.

Because a chunk is written by the very transaction that writes its records, there is nothing that has to look for
new records, and no late commit can be missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from rpa_core.errors import InputError, UsageError
from rpa_core.store import copy

BLOCK = 1000
FLOW_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,40}")  # as the CHECK on rpa.flow has it
_COPY_FROM = 32  # below this, one round trip to rpa.enqueue is quicker than COPY's several


class NewRecord(NamedTuple):
    """One record to enqueue: its payload as JSON text (UTF-8), and a key that is unique in the flow, or None."""

    payload: bytes
    key: str | None = None


class Enqueued(NamedTuple):
    """How many records were new, and how many the flow had already under the same key."""

    accepted: int
    duplicates: int


class Rejected(NamedTuple):
    """Input that could not be read as a record: kept as a dead letter with every reason."""

    payload: bytes
    key: str | None
    reasons: tuple[str, ...]


class RememberedRequest(NamedTuple):
    """An earlier request under the same idempotency key; `accepted` is None while it has not completed."""

    digest: bytes
    accepted: int | None
    duplicates: int | None


def enqueue(
    connection: psycopg.Connection[Any],
    flow: str,
    records: Iterable[NewRecord],
    *,
    chunk_size: int = BLOCK,
    notify: bool = True,
) -> Enqueued:
    """Enqueue records on the caller's transaction, in constant memory; the caller commits.

    Enqueueing the same key again changes nothing and counts as a duplicate, as long as the record is retained.
    Waiting workers are told at the commit. Raises UsageError for a bad `chunk_size` or flow name, InputError for
    a payload that is not JSON or a key that cannot be stored; the caller then rolls back, its transaction or a
    savepoint of its own around this call.
    """
    if not 1 <= chunk_size <= BLOCK:
        raise UsageError(f"chunk_size is {chunk_size}; it must be 1 to {BLOCK}")
    accepted = duplicates = 0
    iterator = iter(records)
    while block := list(islice(iterator, chunk_size)):
        with _refusals(flow):
            if len(block) < _COPY_FROM:
                new = _insert(connection, flow, block, notify)
            else:
                new = _copy(connection, flow, block, notify)
        accepted += new
        duplicates += len(block) - new
    return Enqueued(accepted, duplicates)


@contextmanager
def _refusals(flow: str) -> Iterator[None]:
    """Say in our terms what PostgreSQL, or the way to it, has against a record."""
    try:
        yield
    except errors.CheckViolation as error:
        if error.diag.constraint_name != "flow_name_check":
            raise
        raise _bad_flow_name(flow) from error
    except (UnicodeError, orjson.JSONEncodeError) as error:
        raise InputError(f"a key or payload for flow {flow!r} is not Unicode text: {error}") from error
    except errors.ProgramLimitExceeded as error:
        raise InputError(f"a record for flow {flow!r} is too large, in its key: {_first_line(error)}") from error
    except (psycopg.DataError, errors.StatementTooComplex) as error:
        raise InputError(f"a payload for flow {flow!r} is not valid JSON text: {_first_line(error)}") from error


def _insert(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    row = connection.execute(
        "SELECT accepted FROM rpa.enqueue(%s, %s::text[], %s::text[], %s)",
        (flow, [record.key for record in block], [record.payload.decode() for record in block], notify),
    ).fetchone()
    return int(row[0]) if row else 0


def _copy(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    """COPY what is new; where another transaction writes one of the keys at the same time, INSERT decides."""
    if all(record.key is None for record in block):
        return _copy_new(connection, flow, block, notify)  # nothing to collide with: no savepoint
    if not connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        connection.execute("SELECT 1")  # begins the caller's transaction; psycopg would commit one that we began
    try:
        with connection.transaction():
            return _copy_new(connection, flow, block, notify)
    except errors.UniqueViolation:
        return _insert(connection, flow, block, notify)


def _copy_new(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    with connection.cursor() as cursor:
        ids = cursor.execute(
            "SELECT rpa.flow_id(%s), rpa.open_period(), nextval('rpa.record_block')", (flow,)
        ).fetchone()
        assert ids is not None
        flow_id, period, first = ids
        new = _new_only(cursor, flow_id, block)
        if not new:
            return 0
        write_records(cursor, flow_id, period, first, new)
        cursor.execute(
            "INSERT INTO rpa.chunk (flow, period, lo, hi, n) VALUES (%s, %s, %s, %s, %s)",
            (flow_id, period, first, first + len(new) - 1, len(new)),
        )
        if notify:
            cursor.execute("SELECT pg_notify('rpa.' || %s, '')", (flow,))
    return len(new)


def _new_only(cursor: psycopg.Cursor[Any], flow_id: int, block: Sequence[NewRecord]) -> Sequence[NewRecord]:
    keys = [record.key for record in block if record.key is not None]
    if not keys:
        return block
    # json costs half the time of a text[] parameter. Period by period, so that each key is one look into an index
    # however the planner sees the table: one that has just grown has no statistics, and a scan for each block would
    # make a load quadratic.
    known = {
        row[0]
        for row in cursor.execute(
            """
            SELECT g.key FROM json_array_elements_text(%s::json) AS g (key)
            CROSS JOIN LATERAL (
                SELECT FROM rpa.period p
                CROSS JOIN LATERAL (
                    SELECT FROM rpa.record r WHERE r.period = p.id AND r.flow = %s AND r.key = g.key LIMIT 1
                ) AS here LIMIT 1
            ) AS known
            """,
            (orjson.dumps(keys).decode(), flow_id),
        )
    }
    return list(_first_of_each_key(block, known))


def _first_of_each_key(block: Iterable[NewRecord], known: set[str]) -> Iterator[NewRecord]:
    seen = set(known)
    for record in block:
        if record.key is None:
            yield record
        elif record.key not in seen:
            seen.add(record.key)
            yield record


def write_records(
    cursor: psycopg.Cursor[Any], flow_id: int, period: int, first: int, records: Sequence[NewRecord]
) -> None:
    """COPY records under the ids `first`, `first + 1`, ...; the caller owns that range."""
    lines = [
        b"%d\t%d\t%d\t%s\t%s\n"
        % (number, period, flow_id, copy.text(record.key).encode(), copy.json_text(record.payload))
        for number, record in enumerate(records, first)
    ]
    with cursor.copy("COPY rpa.record (id, period, flow, key, payload) FROM STDIN") as stream:
        stream.write(b"".join(lines))


def set_aside(connection: psycopg.Connection[Any], flow: str, rejected: Iterable[Rejected]) -> int:
    """Keep input that could not be read as dead letters of kind `unreadable`; returns how many were new."""
    count = 0
    iterator = iter(rejected)
    while block := list(islice(iterator, BLOCK)):
        with _refusals(flow):
            count += _set_aside(connection, flow, block)
    return count


def _set_aside(connection: psycopg.Connection[Any], flow: str, block: Sequence[Rejected]) -> int:
    connection.execute("SELECT rpa.open_period()")  # first: what is known must be read after a rotation waited for
    row = connection.execute(
        """
        WITH place AS MATERIALIZED (
            SELECT rpa.flow_id(%(flow)s) AS flow, rpa.open_period() AS period,
                   nextval('rpa.record_block') AS first
        ), written AS (
            INSERT INTO rpa.record (id, period, flow, key, payload)
            SELECT place.first + g.ord - 1, place.period, place.flow, g.key, g.payload::json
            FROM place, unnest(%(keys)s::text[], %(payloads)s::text[]) WITH ORDINALITY AS g (key, payload, ord)
            WHERE g.key IS NULL
               OR NOT EXISTS (SELECT FROM rpa.record r WHERE r.flow = place.flow AND r.key = g.key)
            ON CONFLICT DO NOTHING
            RETURNING id, period, flow
        ), dead AS (
            INSERT INTO rpa.dead_letter (record_id, period, flow, kind, tries, reasons)
            SELECT w.id, w.period, w.flow, 'unreadable', 0,
                   ARRAY(SELECT json_array_elements_text((%(reasons)s::text[])[w.id - place.first + 1]::json))
            FROM written w, place
            RETURNING 1
        )
        SELECT count(*) FROM dead
        """,
        {
            "flow": flow,
            "keys": [record.key for record in block],
            "payloads": [record.payload.decode() for record in block],
            "reasons": [_json_list(record.reasons) for record in block],
        },
    ).fetchone()
    return int(row[0]) if row else 0


def _json_list(reasons: Sequence[str]) -> str:
    return orjson.dumps([reason.replace("\x00", "\\0") for reason in reasons]).decode()


def remember_request(
    connection: psycopg.Connection[Any], flow: str, idempotency_key: str, digest: bytes
) -> RememberedRequest | None:
    """Claim an idempotency key on the caller's transaction; returns the earlier request under it, if any.

    A twin that runs at the same time waits here until the first one commits or rolls back.
    """
    check_flow_name(flow)
    mine = connection.execute(
        "INSERT INTO rpa.request (flow, key, digest) VALUES (rpa.flow_id(%s), %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING 1",
        (flow, idempotency_key, digest),
    ).fetchone()
    if mine:
        return None
    row = connection.execute(
        "SELECT digest, accepted, duplicates FROM rpa.request WHERE flow = rpa.flow_id(%s) AND key = %s",
        (flow, idempotency_key),
    ).fetchone()
    return RememberedRequest(bytes(row[0]), row[1], row[2]) if row else None


def complete_request(
    connection: psycopg.Connection[Any],
    flow: str,
    idempotency_key: str,
    accepted: int,
    duplicates: int,
    digest: bytes | None = None,
) -> None:
    """Store the answer beside the key, and the digest where it was only known at the end of a stream."""
    connection.execute(
        "UPDATE rpa.request SET accepted = %s, duplicates = %s, digest = coalesce(%s, digest)"
        " WHERE flow = rpa.flow_id(%s) AND key = %s",
        (accepted, duplicates, digest, flow, idempotency_key),
    )


def check_flow_name(flow: str) -> None:
    """Raises UsageError for a name that no flow can have."""
    if not FLOW_NAME.fullmatch(flow):
        raise _bad_flow_name(flow)


def _bad_flow_name(flow: str) -> UsageError:
    return UsageError(f"flow name {flow!r}: use lower-case letters, digits, `_`, `.` and `-`, 41 characters at most")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
