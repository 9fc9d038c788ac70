"""Records into the ledger, on the caller's transaction: they exist when the caller commits, with their chunks.

Because a chunk is written by the very transaction that writes its records, there is nothing that has to look for
new records, and no late commit can be missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import orjson
import psycopg
from psycopg import errors

from rpa_core.errors import InputError, UsageError
from rpa_core.store import copy
from rpa_core.store.callers import (
    CallersConnection,
    Cursor,
    all_or_nothing,
    cursor_of,
    driver_of,
    in_utf8,
    is_pipelined,
    is_utf8,
    savepoint,
)
from rpa_core.store.connect import to_put_right
from rpa_core.store.sql import statements

BLOCK = 1000
BLOCK_BYTES = 4 * 1024 * 1024  # of payload in a chunk; a larger record is a chunk of its own
FLOW_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,40}")  # as the CHECK on rpa.flow has it
_KEYS = (str, type(None))
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


R = TypeVar("R", NewRecord, Rejected)


class RememberedRequest(NamedTuple):
    """An earlier request under the same idempotency key; `accepted` is None while it has not completed."""

    digest: bytes
    accepted: int | None
    duplicates: int | None


def enqueue(
    connection: CallersConnection,
    flow: str,
    records: Iterable[NewRecord],
    *,
    chunk_size: int = BLOCK,
    notify: bool = True,
) -> Enqueued:
    """Enqueue records on the caller's transaction, in constant memory; the caller commits.

    On an autocommit connection with no transaction open the call is a transaction of its own. Enqueueing the same key
    again changes nothing and counts as a duplicate, as long as the record is retained. A chunk has up to `chunk_size`
    records and 4 MiB of payload. Waiting workers are notified at the commit.

    A call that raises has enqueued nothing; the caller then rolls back, its transaction or a savepoint of its own
    around this call. Raises UsageError for a connection that is not taken, a bad `chunk_size`, flow name or type of
    record, InputError for a payload that is not JSON or a key that cannot be stored, SchemaError where the database
    has to be put right first, and psycopg's errors as they come: a SerializationFailure where the transaction is
    REPEATABLE READ or SERIALIZABLE and has to be begun again.
    """
    check_flow_name(flow)
    if chunk_size not in range(1, BLOCK + 1):
        raise UsageError(f"chunk_size is {chunk_size!r}; it must be 1 to {BLOCK}")
    driver = driver_of(connection)
    accepted = duplicates = 0
    with ExitStack() as undo:
        for number, (block, last) in enumerate(_blocks(records, NewRecord, chunk_size)):
            by_function = len(block) < _COPY_FROM or is_pipelined(driver)
            with _refusals(flow):
                if number == 0 and not (last and by_function and is_utf8(driver)):
                    undo.enter_context(all_or_nothing(driver))
                with in_utf8(driver):
                    new = (_insert if by_function else _copy)(driver, flow, block, notify)
            accepted += new
            duplicates += len(block) - new
    return Enqueued(accepted, duplicates)


def _blocks(records: Iterable[R], kind: type[R], most: int = BLOCK) -> Iterator[tuple[list[R], bool]]:
    """Blocks of up to `most` records and `BLOCK_BYTES` of payload, each with whether it is known to be the last."""
    block: list[R] = []
    size = 0
    for number, record in enumerate(records):
        if record.__class__ is not kind or record.payload.__class__ is not bytes or record.key.__class__ not in _KEYS:
            _check(record, kind, number)
        length = len(record.payload)
        if block and (len(block) == most or size + length > BLOCK_BYTES):
            yield block, False
            block, size = [], 0
        block.append(record)
        size += length
    if block:
        yield block, True


def _check(record: object, kind: type[NewRecord | Rejected], number: int) -> None:
    """Raise UsageError for what is no such record, or one that does not hold what it should."""
    if not isinstance(record, kind):
        raise UsageError(
            f"record {number} is {_kind(record)}: pass a list or iterator of rpa_core.{kind.__name__}(payload, key), "
            "the payload JSON text as bytes"
        )
    if not isinstance(record.payload, bytes):
        raise UsageError(
            f"the payload of record {number} is {_kind(record.payload)}: pass JSON text as bytes, "
            "such as json.dumps(value).encode()"
        )
    if not isinstance(record.key, str | None):
        raise UsageError(f"the key of record {number} is {_kind(record.key)}: pass a str or None")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


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
    except psycopg.DatabaseError as error:
        if (wrong := to_put_right(error)) is not None:
            raise wrong from error
        raise


def _insert(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    row = (
        cursor_of(connection)
        .execute(
            statements("intake")["enqueue"],
            {
                "flow": flow,
                "keys": _key_list(block),
                "payloads": [record.payload.decode() for record in block],
                "notify": notify,
            },
        )
        .fetchone()
    )
    return int(row[0]) if row else 0


def _key_list(block: Sequence[NewRecord | Rejected]) -> str:
    return orjson.dumps([record.key for record in block]).decode()


def _copy(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    """COPY what is new; where another transaction writes one of the keys at the same time, INSERT decides."""
    if all(record.key is None for record in block):
        return _copy_new(connection, flow, block, notify)  # nothing to collide with
    try:
        with savepoint(connection):
            return _copy_new(connection, flow, block, notify)
    except errors.UniqueViolation as error:
        if to_put_right(error) is not None:
            raise
        return _insert(connection, flow, block, notify)


def _copy_new(connection: psycopg.Connection[Any], flow: str, block: Sequence[NewRecord], notify: bool) -> int:
    sql = statements("intake")
    with cursor_of(connection) as cursor:
        place = cursor.execute(sql["place"], {"flow": flow}).fetchone()
        assert place is not None
        flow_id, period, first = place
        new = _new_only(cursor, flow_id, block)
        if not new:
            return 0
        write_records(cursor, flow_id, period, first, new)
        cursor.execute(
            sql["chunk"],
            {
                "flow": flow_id,
                "period": period,
                "lo": first,
                "hi": first + len(new) - 1,
                "n": len(new),
                "bytes": sum(len(record.payload) for record in new),
                "notify": notify,
                "name": flow,
            },
        )
    return len(new)


def _new_only(cursor: Cursor, flow_id: int, block: Sequence[NewRecord]) -> Sequence[NewRecord]:
    keys = [record.key for record in block if record.key is not None]
    if not keys:
        return block
    rows = cursor.execute(statements("intake")["known"], {"keys": orjson.dumps(keys).decode(), "flow": flow_id})
    known = {keys[int(row[0]) - 1] for row in rows}
    return list(_first_of_each_key(block, known))


def known_keys(connection: psycopg.Connection[Any], flow: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys that the flow has; none where there is no such flow."""
    row = connection.execute("SELECT id FROM rpa.flow WHERE name = %s", (flow,)).fetchone()
    if row is None or not keys:
        return set()
    rows = connection.execute(statements("intake")["known"], {"keys": orjson.dumps(keys).decode(), "flow": row[0]})
    return {keys[int(found[0]) - 1] for found in rows}


def loaded_before(
    connection: psycopg.Connection[Any], flow: str, name: str, lines: Sequence[int], last: int
) -> list[tuple[str, str]]:
    """Key and MD5 of the rows on these lines in earlier files of that name with unreadable lines up to `last`."""
    row = connection.execute("SELECT id FROM rpa.flow WHERE name = %s", (flow,)).fetchone()
    if row is None:
        return []
    given = {"flow": row[0], "name": name, "lines": orjson.dumps(lines).decode(), "last": last}
    return [(key, digest) for key, digest in connection.execute(statements("intake")["loaded_before"], given)]


def _first_of_each_key(block: Iterable[NewRecord], known: set[str]) -> Iterator[NewRecord]:
    seen = set(known)
    for record in block:
        if record.key is None:
            yield record
        elif record.key not in seen:
            seen.add(record.key)
            yield record


def write_records(cursor: Cursor, flow_id: int, period: int, first: int, records: Sequence[NewRecord]) -> None:
    """COPY records under the ids `first`, `first + 1`, ...; the caller owns that range."""
    lines = [
        b"%d\t%d\t%d\t%s\t%s\n"
        % (number, period, flow_id, copy.text(record.key).encode(), copy.json_text(record.payload))
        for number, record in enumerate(records, first)
    ]
    with cursor.copy("COPY rpa.record (id, period, flow, key, payload) FROM STDIN (ENCODING 'UTF8')") as stream:
        stream.write(b"".join(lines))


def set_aside(connection: psycopg.Connection[Any], flow: str, rejected: Iterable[Rejected]) -> int:
    """Keep input that could not be read as dead letters of kind `unreadable`; returns how many were new.

    As `enqueue`: on the caller's transaction, in blocks of 1,000 and 4 MiB; a call that raises has kept nothing.
    """
    check_flow_name(flow)
    driver = driver_of(connection)
    count = 0
    with ExitStack() as undo:
        for number, (block, _) in enumerate(_blocks(rejected, Rejected)):
            with _refusals(flow):
                if number == 0:
                    undo.enter_context(all_or_nothing(driver))
                with in_utf8(driver):
                    count += _set_aside(cursor_of(driver), flow, block)
    return count


def _set_aside(cursor: Cursor, flow: str, block: Sequence[Rejected]) -> int:
    cursor.execute("SELECT rpa.open_period()")  # first: what is known must be read after a rotation waited for
    row = cursor.execute(
        statements("intake")["set_aside"],
        {
            "flow": flow,
            "keys": _key_list(block),
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
    cursor = cursor_of(connection)
    mine = cursor.execute(
        "INSERT INTO rpa.request (flow, key, digest) VALUES (rpa.flow_id(%s), %s, %s)"
        " ON CONFLICT (flow, key) DO NOTHING RETURNING 1",
        (flow, idempotency_key, digest),
    ).fetchone()
    if mine:
        return None
    row = cursor.execute(
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


def check_flow_name(flow: object) -> None:
    """Raises UsageError for a name that no flow can have."""
    if not (isinstance(flow, str) and FLOW_NAME.fullmatch(flow)):
        raise _bad_flow_name(flow)


def _bad_flow_name(flow: object) -> UsageError:
    return UsageError(f"flow name {flow!r}: use lower-case letters, digits, `_`, `.` and `-`, 41 characters at most")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
