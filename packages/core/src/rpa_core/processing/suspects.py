"""Chunks that ended a worker: run singly with the position noted, then cut down to the one record to blame.

Such a chunk is never read as a whole, because reading it may be what ended the worker: its outline is enough to cut it,
and where it is run, its records are read one at a time.

A chunk is suspect once a claim of it ended without a word. Its records are then run one at a time, and before
each the position is written to the ledger; so the next crash names the record. Where it does not, halves find it
in at most 2 log2(n) crashes. A record that ends its worker `max_claims` times all by itself is set aside.
"""

from __future__ import annotations

from collections.abc import Sequence

from rpa_core.store.ledger import part
from rpa_core.store.values import Chunk, ChunkOutcome, DeadLetter, NewChunk, Outline


def is_suspect(chunk: Chunk) -> bool:
    """Whether an earlier claim of this chunk ended without a word (this claim is counted already)."""
    return chunk.attempts > 1


def verdict(chunk: Chunk, records: Sequence[Outline], max_claims: int) -> ChunkOutcome | None:
    """What to do with a suspect instead of running it: cut it or set it aside; None means run it, singly."""
    if not is_suspect(chunk) or not records:
        return None
    end = ChunkOutcome(chunk=chunk, vanished=chunk.n - len(records))
    if len(records) == 1:
        if chunk.attempts <= max_claims:
            return None
        reason = f"the worker ended {chunk.attempts - 1} times while this record was in process"
        end.dead.append(DeadLetter(records[0].id, "crash", chunk.attempts - 1, (reason,)))
        return end
    if chunk.progress is not None:
        end.moved += _around(chunk, records, min(chunk.progress, len(records) - 1))
        return end
    if chunk.attempts > max_claims:
        end.moved += _halves(chunk, records, max_claims)
        return end
    return None


def _around(chunk: Chunk, records: Sequence[Outline], position: int) -> list[NewChunk]:
    """Before the record in flight, the record alone, and after it; each starts with a clean slate."""
    bounds = [(0, position), (position, position + 1), (position + 1, len(records))]
    return [_part(chunk, records[start:stop]) for start, stop in bounds if start < stop]


def _halves(chunk: Chunk, records: Sequence[Outline], max_claims: int) -> list[NewChunk]:
    """Halves of two and more are allowed one crash before they are cut again; a lone record gets all of them."""
    middle = len(records) // 2
    return [
        _part(chunk, half, attempts=max_claims - 1 if len(half) > 1 else 0)
        for half in (records[:middle], records[middle:])
    ]


def _part(chunk: Chunk, records: Sequence[Outline], attempts: int = 0) -> NewChunk:
    size_bytes = sum(record.size_bytes for record in records)
    return part(chunk, [record.id for record in records], size_bytes=size_bytes, attempts=attempts)
