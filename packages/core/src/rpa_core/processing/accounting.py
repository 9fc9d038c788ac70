"""From a chunk's outcomes to what its completion writes: every record in exactly one place."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rpa_core.processing.flow import Flow
from rpa_core.processing.outcome import Retry, SetAside
from rpa_core.processing.taking import Encoded, Taken, Unstorable
from rpa_core.resilience.retry import RetryBudget, RetryPolicy
from rpa_core.store.intake import NewRecord
from rpa_core.store.ledger import part
from rpa_core.store.values import Chunk, ChunkOutcome, DeadLetter, NewChunk, StoredRecord

_MAX_DELAY_S = 366 * 86_400.0


class Accounting:
    """Applies the retry policy.

    A record that failed waits with full jitter; where retries exceed the budget (a share of what succeeds), they
    wait the longest delay there is, so that a broken dependency is not hammered.
    """

    def __init__(self, flow: Flow, policy: RetryPolicy, budget: RetryBudget, rand: random.Random) -> None:
        self._flow = flow
        self._policy = policy
        self._budget = budget
        self._rand = rand

    def account(
        self,
        chunk: Chunk,
        rows: Sequence[StoredRecord],
        outcomes: Sequence[Taken],
        remainder_parts: int = 1,
        unread: Sequence[NewChunk] = (),
    ) -> ChunkOutcome:
        """`outcomes` belong to the first records; the others go on, in `remainder_parts` chunks of about one size.

        `rows` are the chunk's records as they were read, `unread` holds those that were not: whatever the chunk lists
        beyond them is not in the database.
        """
        end = ChunkOutcome(chunk=chunk, vanished=chunk.n - len(rows) - sum(new.n for new in unread))
        again: dict[tuple[int, float], list[StoredRecord]] = {}
        results, next_flow = end.results, self._flow.next_flow
        forward = end.emits.setdefault(next_flow, []) if next_flow else None
        for row, attempt, outcome in zip(rows, attempts(chunk, rows), outcomes, strict=False):
            number = row[0]
            if type(outcome) is bytes:
                results.append((number, outcome))
                if forward is not None:
                    forward.append((number, NewRecord(outcome, row[1])))
            elif type(outcome) is Encoded:
                results.append((number, outcome.data))
                if forward is not None:
                    forward.append((number, NewRecord(outcome.data, row[1])))
                for flow, new in outcome.emits:
                    end.emits.setdefault(flow, []).append((number, new))
            elif isinstance(outcome, Retry):
                if self._policy.exhausted(attempt):
                    tried = f"gave up after {attempt} tries: {outcome.reason}"
                    end.dead.append(DeadLetter(number, "exhausted", attempt, (tried,)))
                else:
                    after_s = min(max(outcome.after_s or 0.0, 0.0), _MAX_DELAY_S)
                    again.setdefault((attempt, after_s), []).append(row)
            elif isinstance(outcome, SetAside):
                end.dead.append(DeadLetter(number, "rejected", attempt, outcome.reasons))
            elif isinstance(outcome, Unstorable):
                end.dead.append(DeadLetter(number, "unstorable", attempt, (outcome.reason,)))
            else:
                raise TypeError(f"{outcome!r} is no outcome of record {number}")
        self._budget.record_attempts(len(results))
        for (tries, after_s), failed in again.items():
            end.moved += self._retries(failed, tries, after_s)
        end.moved += remainder(chunk, rows, len(outcomes), remainder_parts)
        end.moved += unread
        return end

    def _retries(self, failed: list[StoredRecord], tries: int, after_s: float) -> list[NewChunk]:
        within = self._budget.take(len(failed))
        soon_s = self._policy.delay_s(tries, self._rand)
        late_s = self._policy.cap_s * self._rand.uniform(0.5, 1.0)
        return [
            NewChunk(
                lo=min(ids),
                hi=max(ids),
                n=len(ids),
                ids=ids,
                tries=[tries] * len(ids),
                delay_s=max(delay_s, after_s, 0.001),
                size_bytes=_size_bytes(group),
            )
            for group, delay_s in ((failed[:within], soon_s), (failed[within:], late_s))
            if (ids := [row.id for row in group])
        ]


def attempts(chunk: Chunk, rows: Sequence[StoredRecord]) -> Sequence[int]:
    """How often each record is tried by now, this time included."""
    if chunk.ids is None or chunk.tries is None:
        return (1,) * len(rows)
    tried = dict(zip(chunk.ids, chunk.tries, strict=True))
    return [tried[row.id] + 1 for row in rows]


def remainder(chunk: Chunk, rows: Sequence[StoredRecord], begin: int, parts: int) -> list[NewChunk]:
    """The records from `begin` on as new chunks, ready at once; their claim is not counted.

    What is left of a suspect stays one: the record to blame may be among it.
    """
    left = len(rows) - begin
    if left <= 0:
        return []
    size = -(-left // max(1, min(parts, left)))
    attempts = 1 if chunk.attempts > 1 else 0
    groups = [rows[start : start + size] for start in range(begin, len(rows), size)]
    return [
        part(chunk, [row.id for row in group], size_bytes=_size_bytes(group), attempts=attempts) for group in groups
    ]


def _size_bytes(rows: Sequence[StoredRecord]) -> int:
    return sum(len(row.payload) for row in rows)
