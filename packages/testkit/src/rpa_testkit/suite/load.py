"""Many records into a ledger at once: one COPY for a hundred blocks, with their chunks in the same transaction.

rpa_core's `enqueue` looks for every key first and costs four round trips a block; a database that is being filled has
none of them. Where one is there after all, `enqueue` does that part instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import psycopg
from psycopg import errors

from rpa_core.store import copy
from rpa_core.store.intake import BLOCK, Enqueued, NewRecord, check_flow_name, enqueue

_BLOCKS = 100  # in one transaction: so many records can be worked on while the rest is still made
_PLACE = "SELECT rpa.flow_id(%s), rpa.open_period()"
_FIRSTS = "SELECT nextval('rpa.record_block') FROM generate_series(1, %s)"
_COPY = "COPY rpa.record (id, period, flow, key, payload) FROM STDIN"
_CHUNKS = """
INSERT INTO rpa.chunk (flow, period, lo, hi, n)
SELECT %s, %s, lo, lo + n - 1, n FROM unnest(%s::bigint[], %s::integer[]) AS g (lo, n) ORDER BY lo
"""


def load(connection: psycopg.Connection[Any], flow: str, records: Iterable[NewRecord]) -> Enqueued:
    """Load and commit, in constant memory; how many were new, and how many the flow had already.

    Raises as `enqueue` does: UsageError for a flow's name, InputError for a payload that is no JSON.
    """
    check_flow_name(flow)
    accepted = duplicates = 0
    iterator = iter(records)
    while part := list(islice(iterator, BLOCK * _BLOCKS)):
        try:
            with connection.transaction():
                _copied(connection, flow, part)
            accepted += len(part)
        except (errors.UniqueViolation, psycopg.DataError, errors.ProgramLimitExceeded, UnicodeError):
            with connection.transaction():  # what is wrong with a record, enqueue says
                done = enqueue(connection, flow, part)
            accepted += done.accepted
            duplicates += done.duplicates
    return Enqueued(accepted, duplicates)


def _copied(connection: psycopg.Connection[Any], flow: str, part: list[NewRecord]) -> None:
    with connection.cursor() as cursor:
        place = cursor.execute(_PLACE, (flow,)).fetchone()
        assert place is not None
        flow_id, period = place
        sizes = [min(BLOCK, len(part) - start) for start in range(0, len(part), BLOCK)]
        firsts = [first for (first,) in cursor.execute(_FIRSTS, (len(sizes),)).fetchall()]
        with cursor.copy(_COPY) as stream:
            for block in _lines(part, firsts, b"\t%d\t%d\t" % (period, flow_id)):
                stream.write(block)
        cursor.execute(_CHUNKS, (flow_id, period, firsts, sizes))
        cursor.execute("SELECT pg_notify('rpa.' || %s, '')", (flow,))


def _lines(part: list[NewRecord], firsts: list[int], place: bytes) -> Iterator[bytes]:
    """The rows of a block at a time. Nearly always nothing in it needs escaping, and one look at all of it tells."""
    for number, first in enumerate(firsts):
        block = part[number * BLOCK : (number + 1) * BLOCK]
        rows = b"".join(
            [
                b"%d%s%s\t%s\n" % (record_id, place, (copy.NULL if key is None else key).encode(), payload)
                for record_id, (payload, key) in enumerate(block, first)
            ]
        )
        n = len(block)
        plain = b"\\" not in rows and b"\r" not in rows and rows.count(b"\n") == n and rows.count(b"\t") == 4 * n
        yield rows if plain else _escaped(block, first, place)


def _escaped(block: list[NewRecord], first: int, place: bytes) -> bytes:
    return b"".join(
        [
            b"%d%s%s\t%s\n" % (record_id, place, copy.text(key).encode(), copy.json_text(payload))
            for record_id, (payload, key) in enumerate(block, first)
        ]
    )
