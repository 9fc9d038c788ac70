"""What must be true of the ledger after every step, asked of the database itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

# The machine's own effects: no key, no constraint, so that a second effect would be seen rather than refused.
SCHEMA = """
CREATE SCHEMA machine;
CREATE TABLE machine.effect (record_id bigint NOT NULL);
CREATE TABLE machine.cut (last bigint NOT NULL);
INSERT INTO machine.cut VALUES (0);
"""

_EMPTY = (
    "DELETE FROM rpa.chunk",
    "DELETE FROM rpa.chunk_done",
    "DELETE FROM rpa.result",
    "DELETE FROM rpa.dead_letter",
    "DELETE FROM rpa.record",
    "DELETE FROM machine.effect",
    "UPDATE machine.cut SET last = 0",
)

_PLACES = """
SELECT r.id, (r.payload->>'serial')::integer,
       (SELECT count(*) FROM rpa.chunk c WHERE c.period = r.period AND c.flow = r.flow
           AND CASE WHEN c.ids IS NULL THEN r.id BETWEEN c.lo AND c.hi ELSE r.id = ANY(c.ids) END),
       (SELECT count(*) FROM rpa.result s WHERE s.record_id = r.id),
       (SELECT count(*) FROM rpa.dead_letter d WHERE d.record_id = r.id),
       (SELECT count(*) FROM machine.effect e WHERE e.record_id = r.id)
FROM rpa.record r
"""

# Every row of this is a contradiction.
_CONTRADICTIONS = """
SELECT format('chunk %s lists %s records and there are %s', c.id, c.n, held.n) FROM rpa.chunk c
CROSS JOIN LATERAL (SELECT count(*) AS n FROM rpa.record r WHERE r.period = c.period
    AND CASE WHEN c.ids IS NULL THEN r.id BETWEEN c.lo AND c.hi ELSE r.id = ANY(c.ids) END) held
WHERE held.n <> c.n
UNION ALL
SELECT format('chunk %s counts %s results and has %s', d.id, d.n_ok, held.n) FROM rpa.chunk_done d
CROSS JOIN LATERAL (SELECT count(*) AS n FROM rpa.result s WHERE s.period = d.period AND s.chunk_id = d.id) held
WHERE held.n <> d.n_ok
UNION ALL
SELECT format('chunk %s ended and is still there', d.id) FROM rpa.chunk_done d JOIN rpa.chunk c ON c.id = d.id
UNION ALL
SELECT format('chunk %s ended %s times', id, count(*)) FROM rpa.chunk_done GROUP BY id HAVING count(*) > 1
UNION ALL
SELECT format('record %s has a result by lease %s, but lease %s ended chunk %s', s.record_id, s.data->>'lease',
              d.lease_id, s.chunk_id)
FROM rpa.result s LEFT JOIN rpa.chunk_done d ON d.id = s.chunk_id
WHERE d.lease_id IS DISTINCT FROM (s.data->>'lease')::uuid
UNION ALL
SELECT format('chunk %s moved %s records and its children list %s', d.id, d.n_moved, held.n) FROM rpa.chunk_done d
CROSS JOIN LATERAL (SELECT coalesce(sum(n), 0) AS n FROM (
    SELECT n FROM rpa.chunk WHERE parent = d.id UNION ALL SELECT n FROM rpa.chunk_done WHERE parent = d.id) x) held
WHERE held.n <> d.n_moved
"""

_EPOCHS = "SELECT id, epoch, state FROM rpa.chunk"
_DEAD = """
SELECT (SELECT coalesce(sum(n_dead), 0) FROM rpa.chunk_done), (SELECT count(*) FROM rpa.dead_letter),
       (SELECT count(*) FROM rpa.dead_letter WHERE kind <> 'unreadable' AND discarded IS NULL)
"""


class InvariantBrokenError(Exception):
    """The ledger contradicts itself, or the model."""


def prepare(dsn: str) -> None:
    """Add the machine's tables, and drop the wait for the disk: no step here pulls the plug."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = off')
        connection.execute(f"ALTER DATABASE \"{connection.info.dbname}\" SET lock_timeout = '5s'")


def empty(connection: psycopg.Connection[Any]) -> None:
    """Back to no records and one open period."""
    for statement in _EMPTY:
        connection.execute(statement)
    for (period,) in connection.execute("DELETE FROM rpa.period WHERE closed_at IS NOT NULL RETURNING id").fetchall():
        for parent in ("record", "result", "dead_letter", "chunk_done"):
            connection.execute(f"DROP TABLE rpa.{parent}_p{period}")


@dataclass
class Model:
    """What the machine knows of the ledger beside what it reads there."""

    committed: dict[int, str | None] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    unreadable: int = 0
    put_back: int = 0
    states: Counter[str] = field(default_factory=Counter)  # chunks by state, as last seen
    dead: int = 0  # dead letters that can be put back, as last seen


def check(connection: psycopg.Connection[Any], model: Model, *, drained: bool = False) -> None:
    """Every committed record is in exactly one place, with exactly one effect if it is done; no epoch falls."""
    with connection.pipeline():
        answers = [connection.execute(query) for query in (_PLACES, _CONTRADICTIONS, _EPOCHS, _DEAD)]
    places, contradictions, epochs, dead = (answer.fetchall() for answer in answers)
    _check_places(places, set(model.committed), drained)
    _must(not contradictions, "; ".join(row[0] for row in contradictions))
    model.states = Counter(state for _, _, state in epochs)
    for chunk_id, epoch, _ in epochs:
        before = model.epochs.get(chunk_id, 0)
        _must(epoch >= before, f"chunk {chunk_id} went back from epoch {before} to {epoch}")
        model.epochs[chunk_id] = epoch
    ever, now, model.dead = dead[0]
    _must(
        ever + model.unreadable == now + model.put_back,
        f"set aside {ever} and {model.unreadable} at intake; dead letters now {now}, put back {model.put_back}",
    )


def _check_places(rows: Sequence[tuple[int, ...]], committed: set[int], drained: bool) -> None:
    found = {serial for _, serial, *_ in rows}
    _must(not (committed - found), f"records {sorted(committed - found)} were committed and are gone")
    _must(not (found - committed), f"records {sorted(found - committed)} exist and were never committed")
    for record_id, serial, unfinished, results, dead, effects in rows:
        where = (
            f"record {record_id} (serial {serial}) is in {unfinished} chunks, {results} results, {dead} dead letters"
        )
        _must(unfinished + results + dead == 1, where)
        _must(effects == results, f"{where} and took effect {effects} times")
        _must(not (drained and unfinished), f"{where} although everything was worked off")


def expect(what: str, got: object, wanted: object) -> None:
    """The ledger's answer must be the model's."""
    _must(got == wanted, f"{what}: the ledger says {got}, the model {wanted}")


def count(connection: psycopg.Connection[Any], query: str) -> int:
    """The one number that a query answers."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _must(true: bool, otherwise: str) -> None:
    if not true:
        raise InvariantBrokenError(otherwise)
