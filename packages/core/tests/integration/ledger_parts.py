"""What the ledger's machine is made of: the engine it drives, its memory, the ends it gives to chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.processing.accounting import remainder
from rpa_core.store.effects import Effects
from rpa_core.store.intake import Enqueued, NewRecord, enqueue
from rpa_core.store.ledger import Ledger, parts_of
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, Contents, DeadLetter, NewChunk, Outline

FLOW = "machine"
LATER_S = 3600.0


class KilledError(BaseException):
    """The worker ends here; nothing in the engine may catch it."""


class Trap(Checkpoints):
    """Ends the worker at one point, once."""

    armed: Point | None = None

    def reach(self, point: Point) -> None:
        """Called by the engine."""
        if point is self.armed:
            self.armed = None
            raise KilledError(point)


class Engine:
    """The parts of the store that the machine drives; a mutant replaces one of them."""

    ledger: type[Ledger] = Ledger

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Open while the machine runs."""
        yield

    def enqueue(self, connection: psycopg.Connection[Any], records: Iterable[NewRecord], chunk_size: int) -> Enqueued:
        """Records in, on the caller's transaction."""
        return enqueue(connection, FLOW, records, chunk_size=chunk_size)

    def committed(self, connection: psycopg.Connection[Any]) -> None:
        """Called after each commit of an enqueue; the real engine has nothing to do then."""


@dataclass
class Holding:
    """What one claim took, as its worker remembers it for ever."""

    worker: int
    claim: Claim
    contents: list[Contents]
    spent: bool = False


@dataclass
class Late:
    """A transaction that has enqueued and not yet committed."""

    connection: psycopg.Connection[Any]
    records: dict[int, str | None]


def effects() -> Effects:
    """One row for each record."""

    def write(connection: psycopg.Connection[Any], record_ids: Sequence[int]) -> None:
        connection.execute("INSERT INTO machine.effect SELECT unnest(%s::bigint[])", (list(record_ids),))

    return Effects(write)


def end_of(chunk: Chunk, content: Contents, lease: UUID, pattern: str, share: int, parts: int) -> ChunkOutcome:
    """By `pattern`, the first `share` quarters of what was read: done, retry soon or later, set aside, unstorable."""
    end = ChunkOutcome(chunk=chunk)
    rows = content.records
    begun = len(rows) * share // 4
    again: dict[float, list[int]] = {}
    data = orjson.dumps({"lease": str(lease)})
    for number, row in enumerate(rows[:begun]):
        match pattern[number % len(pattern)]:
            case "d":
                end.results.append((row.id, data))
            case "b":
                end.results.append((row.id, b"{"))
            case "x":
                end.dead.append(DeadLetter(row.id, "rejected", 1, ("no good",)))
            case delay:
                again.setdefault(0.001 if delay == "r" else LATER_S, []).append(row.id)
    for delay_s, ids in again.items():
        end.moved.append(NewChunk(min(ids), max(ids), len(ids), ids, [1] * len(ids), delay_s))
    end.moved += remainder(chunk, rows, begun, parts)
    end.moved += parts_of(chunk, content.unread, 16)
    return end


def outline_of(content: Contents) -> list[Outline]:
    """Every record of a chunk, read or not."""
    return [Outline(row.id, len(row.payload)) for row in content.records] + content.unread


def contents(connection: psycopg.Connection[Any]) -> dict[int, tuple[set[int], dict[int, int], bool, int]]:
    """For each period that has closed: its records' serials, its ended chunks with what they set aside, if all is done,
    and how many of its records were discarded.

    What is all done may be dropped.
    """
    closed: dict[int, tuple[set[int], dict[int, int], bool, int]] = {}
    for period, serials, done, discarded in connection.execute(
        "SELECT p.id, array_remove(array_agg((r.payload->>'serial')::integer), NULL),"
        " bool_and(r.id IS NULL OR s.record_id IS NOT NULL OR d.discarded IS NOT NULL), count(d.discarded)"
        " FROM rpa.period p"
        " LEFT JOIN rpa.record r ON r.period = p.id LEFT JOIN rpa.result s ON s.period = p.id AND s.record_id = r.id"
        " LEFT JOIN rpa.dead_letter d ON d.period = p.id AND d.record_id = r.id"
        " WHERE p.closed_at IS NOT NULL GROUP BY p.id ORDER BY p.id"
    ).fetchall():
        ended = connection.execute("SELECT id, n_dead FROM rpa.chunk_done WHERE period = %s", (period,)).fetchall()
        closed[period] = (set(serials), dict(ended), done, discarded)
    return closed


def fresh(
    serials: Iterable[int], keyed: bool, again: int, known: Iterable[str | None]
) -> tuple[dict[int, str | None], list[NewRecord]]:
    """New records by serial, and what to enqueue: these, and `again` of the keys that are known already."""
    new = {serial: f"key {serial}" if keyed else None for serial in serials}
    records = [NewRecord(b'{"serial": %d}' % serial, key) for serial, key in new.items()]
    twins = [NewRecord(b'{"serial": -1}', key) for key in known if key is not None][:again]
    return new, [*records, *twins, *(records[:1] if keyed and again == 3 else ())]
