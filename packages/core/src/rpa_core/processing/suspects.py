"""Chunks that ended a worker: run singly with the position noted, then cut down to the one record to blame.

A chunk is suspect once a claim of it ended without a word. Its records are then run one at a time, and before
each the position is written to the ledger; so the next crash names the record. Where it does not, halves find it
in at most 2 log2(n) crashes. A record that ends its worker `max_claims` times all by itself is set aside.
"""

from __future__ import annotations

from collections.abc import Sequence

from rpa_core.store.ledger import part
from rpa_core.store.values import Chunk, ChunkOutcome, DeadLetter, NewChunk, StoredRecord


def is_suspect(chunk: Chunk) -> bool:
    """Whether an earlier claim of this chunk ended without a word (this claim is counted already)."""
    return chunk.attempts > 1


def verdict(chunk: Chunk, records: Sequence[StoredRecord], max_claims: int) -> ChunkOutcome | None:
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


def _around(chunk: Chunk, records: Sequence[StoredRecord], position: int) -> list[NewChunk]:
    """Before the record in flight, the record alone, and after it; each starts with a clean slate."""
    ids = [record.id for record in records]
    bounds = [(0, position), (position, position + 1), (position + 1, len(ids))]
    return [part(chunk, start, stop, ids) for start, stop in bounds if start < stop]


def _halves(chunk: Chunk, records: Sequence[StoredRecord], max_claims: int) -> list[NewChunk]:
    """Halves of two and more are allowed one crash before they are cut again; a lone record gets all of them."""
    ids = [record.id for record in records]
    middle = len(ids) // 2
    return [
        part(chunk, start, stop, ids, attempts=max_claims - 1 if stop - start > 1 else 0)
        for start, stop in ((0, middle), (middle, len(ids)))
    ]
