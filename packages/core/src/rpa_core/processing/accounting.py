"""From a chunk's outcomes to what its completion writes: every record in exactly one place."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import orjson

from rpa_core.processing.flow import Flow, Record
from rpa_core.processing.outcome import Done, Emit, Outcome, Retry, SetAside
from rpa_core.resilience.retry import RetryBudget, RetryPolicy
from rpa_core.store.intake import FLOW_NAME, NewRecord
from rpa_core.store.ledger import part
from rpa_core.store.values import Chunk, ChunkOutcome, DeadLetter, NewChunk

_MAX_REASON = 2000
_MAX_KEY_CHARS = 512  # well under the 2,704 bytes that a PostgreSQL btree entry can hold
_MAX_DELAY_S = 366 * 86_400.0


class Accounting:
    """Applies the retry policy and encodes results.

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
        records: Sequence[Record],
        outcomes: Sequence[Outcome],
        remainder_parts: int = 1,
        unread: Sequence[NewChunk] = (),
    ) -> ChunkOutcome:
        """`outcomes` belong to the first records; the others go on, in `remainder_parts` chunks of about one size.

        `unread` holds the chunk's records that are not among `records`: they were not read.
        """
        end = ChunkOutcome(chunk=chunk, vanished=chunk.n - len(records) - sum(new.n for new in unread))
        again: dict[tuple[int, float | None], list[Record]] = {}
        results, next_flow, dumps = end.results, self._flow.next_flow, orjson.dumps
        forward = end.emits.setdefault(next_flow, []) if next_flow else None
        for record, outcome in zip(records, outcomes, strict=False):
            match outcome:
                case Done():
                    try:
                        encoded = dumps(outcome.data)
                        emitted = _encoded(outcome.emit) if outcome.emit else ()
                    except (TypeError, ValueError, AttributeError) as error:
                        reason = f"the handler's result cannot be stored, it must be JSON: {error}"
                        end.dead.append(_letter(record, "unstorable", (reason,)))
                        continue
                    results.append((record.id, encoded))
                    if forward is not None:
                        forward.append((record.id, NewRecord(encoded, record.key)))
                    for flow, new in emitted:
                        end.emits.setdefault(flow, []).append((record.id, new))
                case Retry(reason, after_s):
                    if self._policy.exhausted(record.attempt):
                        tried = f"gave up after {record.attempt} tries: {reason}"
                        end.dead.append(_letter(record, "exhausted", (tried,)))
                    else:
                        again.setdefault((record.attempt, _delay_s(after_s)), []).append(record)
                case SetAside(reasons):
                    end.dead.append(_letter(record, "rejected", reasons or ("no reason given",)))
        self._budget.record_attempts(len(results))
        for (tries, after_s), failed in again.items():
            end.moved += self._retries(failed, tries, after_s or 0.0)
        end.moved += remainder(chunk, records, len(outcomes), remainder_parts)
        end.moved += unread
        return end

    def _retries(self, failed: list[Record], tries: int, after_s: float) -> list[NewChunk]:
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
            if (ids := [record.id for record in group])
        ]


def remainder(chunk: Chunk, records: Sequence[Record], begin: int, parts: int) -> list[NewChunk]:
    """The records from `begin` on as new chunks, ready at once; their claim is not counted.

    What is left of a suspect stays one: the record to blame may be among it.
    """
    left = len(records) - begin
    if left <= 0:
        return []
    size = -(-left // max(1, min(parts, left)))
    attempts = 1 if chunk.attempts > 1 else 0
    groups = [records[start : start + size] for start in range(begin, len(records), size)]
    return [
        part(chunk, [record.id for record in group], size_bytes=_size_bytes(group), attempts=attempts)
        for group in groups
    ]


def _size_bytes(records: Sequence[Record]) -> int:
    return sum(len(record.raw) for record in records)


def _encoded(emits: Sequence[Emit]) -> Sequence[tuple[str, NewRecord]]:
    """Raises ValueError or TypeError for what the database would refuse, and the other records with it."""
    for emit in emits:
        if not FLOW_NAME.fullmatch(emit.flow):
            raise ValueError(f"it emits to {emit.flow!r}, which no flow can be called")
        if emit.key is not None and (len(emit.key) > _MAX_KEY_CHARS or "\0" in emit.key or _text(emit.key) != emit.key):
            raise ValueError(f"it emits under the key {emit.key[:40]!r}, which is too long or not text")
    return [(emit.flow, NewRecord(orjson.dumps(emit.payload), emit.key)) for emit in emits]


def _delay_s(after_s: object) -> float | None:
    """What a handler asked for, where it is a number that a calendar can hold."""
    if isinstance(after_s, int | float) and math.isfinite(after_s) and after_s > 0:
        return min(float(after_s), _MAX_DELAY_S)
    return None


def _letter(record: Record, kind: str, reasons: Sequence[object]) -> DeadLetter:
    """With reasons that the database takes, whatever the handler gave."""
    given = (reasons,) if isinstance(reasons, str) else reasons
    return DeadLetter(record.id, kind, record.attempt, tuple(_text(str(reason)[:_MAX_REASON]) for reason in given))


def _text(text: str) -> str:
    """Without what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
