"""What people do about dead letters: discard them, or correct what was wrong with them. Each act leaves a row.

A discarded dead letter keeps its row, as its record's one outcome, and no longer keeps its period. A corrected one is
queued again with another payload, and what it was before stays readable beside it until its period is dropped.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import psycopg

from rpa_core.errors import InputError
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.lookup import find
from rpa_core.store.sql import statements

_BLOCK = 1000


class Act(NamedTuple):
    """One call that discarded or corrected dead letters; `kinds` counts them by kind."""

    id: int
    flow: str
    act: str
    n: int
    kinds: Mapping[str, int]
    reason: str | None
    by: str
    at: datetime


class Correction(NamedTuple):
    """A new payload, as JSON text, for the dead letter of this record id. `new_key`: as another record, under it."""

    record_id: int
    payload: str
    new_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Record ids by what became of their corrections.

    unchanged    the payload is what it was: such a dead letter stays.
    missing      not set aside: unknown, in the queue, done or discarded.
    key_taken    the flow has another record under the new key: the dead letter stays.
    """

    corrected: tuple[int, ...]
    unchanged: tuple[int, ...]
    missing: tuple[int, ...]
    key_taken: tuple[int, ...]


def acts(connection: psycopg.Connection[Any], flow: str | None = None, *, most: int = 100) -> list[Act]:
    """The latest acts, newest first, of one flow or of all."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(statements("lookup")["acts"], {"flow": flow, "most": most})
        return [Act._make((*row[:4], json.loads(row[4]), *row[5:])) for row in rows]


def _filter(
    connection: psycopg.Connection[Any],
    flow: str,
    keys: Sequence[str] | None,
    ids: Sequence[int] | None,
    kinds: Sequence[str] | None,
    older_s: float | None,
) -> dict[str, Any]:
    if keys is not None:
        ids = [*(ids or ()), *(record.record_id for record in find(connection, flow, keys=keys))]
    return {
        "flow": flow,
        "ids": list(ids) if ids is not None else None,
        "kinds": list(kinds) if kinds else None,
        "older_s": older_s,
    }


def count_discardable(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    keys: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    older_s: float | None = None,
) -> int:
    """How many dead letters `discard` would take now."""
    parameters = _filter(connection, flow, keys, ids, kinds, older_s)
    row = connection.execute(statements("lookup")["count_discardable"], parameters).fetchone()
    return int(row[0]) if row else 0


def discard(
    connection: psycopg.Connection[Any],
    flow: str,
    *,
    keys: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    older_s: float | None = None,
    reason: str | None = None,
) -> dict[str, int]:
    """Discard a flow's dead letters, all or those chosen, in one transaction; returns how many of each kind.

    `older_s`: only those set aside longer ago, in seconds.
    """
    sql = statements("lookup")
    parameters = _filter(connection, flow, keys, ids, kinds, older_s)
    with connection.transaction() as transaction:
        act = _begin(connection, flow, "discard", reason)
        by_kind = {kind: int(n) for kind, n in connection.execute(sql["discard"], parameters | {"act": act})}
        if not by_kind:
            raise psycopg.Rollback(transaction)
        _end(connection, act, by_kind)
    return by_kind


def correct(
    connection: psycopg.Connection[Any], flow: str, corrections: Iterable[Correction], *, reason: str | None = None
) -> Corrected:
    """Replace the payloads of dead letters and queue their records again, in one transaction and constant memory.

    Each keeps its record id and key; one with a `new_key` becomes another record under that key, and the old one
    counts as discarded. Raises InputError, having changed nothing, where a payload is no JSON or a record comes twice.
    """
    done: dict[str, list[int]] = {"corrected": [], "unchanged": [], "missing": [], "key_taken": []}
    by_kind: Counter[str] = Counter()
    seen: set[int] = set()
    iterator = iter(corrections)
    with connection.transaction() as transaction:
        act = _begin(connection, flow, "correct", reason)
        while block := list(islice(iterator, _BLOCK)):
            for correction in block:
                if correction.record_id in seen:
                    raise InputError(f"record {correction.record_id} is corrected twice; nothing was changed")
                seen.add(correction.record_id)
            _correct(connection, flow, act, block, done, by_kind)
        if not by_kind:
            raise psycopg.Rollback(transaction)
        _end(connection, act, by_kind)
    return Corrected(**{what: tuple(ids) for what, ids in done.items()})


def _correct(
    connection: psycopg.Connection[Any],
    flow: str,
    act: int,
    block: Sequence[Correction],
    done: Mapping[str, list[int]],
    by_kind: Counter[str],
) -> None:
    sql = statements("lookup")
    wanted = {correction.record_id: correction for correction in block}
    in_place: list[tuple[int, int, str]] = []
    moved: list[tuple[int, int, str]] = []
    for record_id, period, kind, payload, key in connection.execute(
        sql["take_letters"], {"flow": flow, "ids": list(wanted)}
    ).fetchall():
        new = wanted.pop(record_id)
        if same_json(payload, new.payload):
            done["unchanged"].append(record_id)
        elif new.new_key is None or new.new_key == key:
            in_place.append((record_id, period, new.payload))
            by_kind[kind] += 1
        elif enqueue(connection, flow, [NewRecord(new.payload.encode(), new.new_key)]).accepted:
            moved.append((record_id, period, new.new_key))
            by_kind[kind] += 1
        else:
            done["key_taken"].append(record_id)
    if in_place:
        ids, periods, payloads = (list(column) for column in zip(*in_place, strict=True))
        parameters = {"flow": flow, "act": act, "ids": ids, "periods": periods, "payloads": payloads}
        try:
            connection.execute(sql["correct"], parameters)
        except psycopg.DataError as error:
            cause = str(error).splitlines()[0]
            raise InputError(f"a payload for flow {flow!r} is not valid JSON text: {cause}") from error
    if moved:
        ids, periods, keys = (list(column) for column in zip(*moved, strict=True))
        connection.execute(sql["replace"], {"act": act, "ids": ids, "periods": periods, "new_keys": keys})
    done["corrected"].extend(record_id for record_id, *_ in (*in_place, *moved))
    done["missing"].extend(wanted)


def same_json(one: str, other: str) -> bool:
    """Whether two JSON texts mean the same; digits count as they are written."""
    return bool(_parsed(one) == _parsed(other))


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=lambda digits: (digits,), parse_int=lambda digits: (digits,))


def _begin(connection: psycopg.Connection[Any], flow: str, act: str, reason: str | None) -> int:
    row = connection.execute(
        statements("lookup")["begin_act"], {"flow": flow, "act": act, "reason": reason, "by": _who()}
    ).fetchone()
    if row is None:
        raise InputError(f"flow {flow!r} has no records")
    return int(row[0])


def _end(connection: psycopg.Connection[Any], act: int, by_kind: Mapping[str, int]) -> None:
    connection.execute(
        statements("lookup")["end_act"], {"act": act, "n": sum(by_kind.values()), "kinds": json.dumps(by_kind)}
    )


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}".encode("utf-8", "replace").decode()
