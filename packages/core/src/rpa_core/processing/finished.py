"""Finished work that outlives the worker: kept in the spool while the database is away, completed by a later life.

    completion fails ---keep--> in the spool, by lease ---the worker completes after all--> let go
                                       |
                                the worker ends, or is killed
                                       |
                   a later life of the flow adopts the spool and asks the ledger first (`Ledger.settle`)
                        done               let go: the COMMIT had happened, or happened since
                        still its lease    completed under that lease, effects and all; no handler runs again
                        taken over         discarded: another worker does, or did, these records

Nothing here decides whose a chunk is: the ledger does, by lease id and epoch. So it is harmless to keep too much, to
try twice and to come late. Leases run out by the database's clock; after a restart of the server each gets one TTL
more. Within that time, or for as long as nobody else has taken over, kept work is completed.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, Protocol

import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.errors import RpaError, StoreRefused, TransientError
from rpa_core.processing.encoding import encode as encode_value
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.flow import Flow, Record
from rpa_core.processing.kept import Handled, Kept, UnknownFormat, decode, encode, parts
from rpa_core.processing.outcome import Done
from rpa_core.processing.taking import Encoded, Taken
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.model import Delivered, Entry, Later, New, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool
from rpa_core.store.connect import classify
from rpa_core.store.effects import Effects
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import ChunkOutcome, Claim, DeadLetter, StoredRecord

logger = logging.getLogger("rpa.worker")
KIND = "finished"


class HeldWork(Protocol):
    """Where outcomes wait that could not be committed yet."""

    def keep(self, claim: Claim, outcomes: Sequence[ChunkOutcome], done: Handled) -> bool:
        """Keep them beyond this process; False where that is not possible, and they are in memory alone."""
        ...

    def let_go(self, claim: Claim) -> None:
        """Forget what was kept of this claim: its chunks are completed, given back, or somebody else's."""
        ...


class SpooledWork:
    """`HeldWork` in this process's own spool. `done` is kept for flows with effects."""

    def __init__(self, spool: Spool, flow: Flow, checkpoints: Checkpoints | None = None) -> None:
        self._spool = spool
        self._flow = flow
        self._checkpoints = checkpoints or Checkpoints()
        self._kept: dict[str, list[str]] = {}  # ids of entries by lease; usually none or one
        self._over: list[str] = []

    def keep(self, claim: Claim, outcomes: Sequence[ChunkOutcome], done: Handled) -> bool:
        """As `HeldWork.keep`; all of it or nothing."""
        self._checkpoints.reach(Point.KEEPING)
        if not self._spool.durable:
            return False
        handled = done if self._flow.effects is not None else None
        lease = str(claim.lease_id)
        new: list[New] = []
        for number, (part_claim, part) in enumerate(parts(claim, outcomes)):
            body = encode(Kept(flow=self._flow.name, claim=part_claim, outcomes=tuple(part), done=handled))
            if body is None:
                self._stays_in_memory(outcomes, "what the flow's effects need is not plain JSON")
                return False
            new.append(New(id=f"{KIND}:{lease}:{number}", kind=KIND, stream=lease, body=body))
        try:
            self._spool.put(*new)
        except SpoolFull as error:
            self._stays_in_memory(outcomes, str(error))
            return False
        self._kept[lease] = [each.id for each in new]
        logger.warning(
            "outcomes of %d records kept in %s until the database takes them",
            sum(outcome.chunk.n for outcome in outcomes),
            self._spool.path,
            extra={"event.action": "work.kept", "flow.name": self._flow.name},
        )
        self._checkpoints.reach(Point.KEPT)
        return True

    def let_go(self, claim: Claim) -> None:
        """As `HeldWork.let_go`. Where the disk does not take it, it is told again with the next claim."""
        self._over += self._kept.pop(str(claim.lease_id), ())
        if not self._over:
            return
        try:
            self._spool.acknowledge(*self._over)
            self._over.clear()
        except SpoolFull as error:
            logger.warning(
                "completed work stays in the spool for now: %s", error, extra={"event.action": "work.not_let_go"}
            )

    def _stays_in_memory(self, outcomes: Iterable[ChunkOutcome], why: str) -> None:
        logger.warning(
            "outcomes of %d records stay in memory alone until the database takes them: %s",
            sum(outcome.chunk.n for outcome in outcomes),
            why,
            extra={"event.action": "work.not_kept", "flow.name": self._flow.name},
        )


class LateCompletion:
    """Completes what earlier lives finished; `deliver` is a courier's.

    `open_ledger` is called for every delivery: these are few. `retry` says how often the database may refuse outcomes
    of a lease that is still held before they are given back, to be worked out again.
    """

    def __init__(
        self,
        flow: Flow,
        open_ledger: Callable[[], Ledger],
        *,
        events: WorkerEvents | None = None,
        retry: RetryPolicy | None = None,
        rand: random.Random | None = None,
    ) -> None:
        self._flow = flow
        self._open_ledger = open_ledger
        self._events = events or WorkerEvents()
        self._retry = retry or RetryPolicy(max_attempts=8, base_s=1.0, cap_s=300.0)
        self._rand = rand or random.Random()  # noqa: S311 - jitter
        self._rounds: dict[str, int] = {}

    def deliver(self, _: Spool, entry: Entry) -> Verdict:
        """Complete one entry, find that it is completed, or that it is somebody else's by now."""
        try:
            kept = decode(entry.body)
        except UnknownFormat as error:
            return Refused(str(error))
        if kept.flow != self._flow.name:
            return Refused(f"finished work of flow {kept.flow!r} in a spool of {self._flow.name!r}")
        try:
            with closing(self._open_ledger()) as ledger:
                self._complete(ledger, kept, entry.id)
        except (TransientError, StoreRefused) as error:
            return Later(str(error))
        except psycopg.Error as error:
            known = classify(error)
            return Later(str(known)) if isinstance(known, TransientError | StoreRefused) else Refused(str(known))
        except RpaError as error:
            return Refused(str(error))
        self._rounds.pop(entry.id, None)
        return Delivered()

    def _complete(self, ledger: Ledger, kept: Kept, name: str) -> None:
        completed, held = ledger.settle(kept.claim)
        pending = [end for end in kept.outcomes if end.chunk.id in held]
        tell(self._events, self._flow.name, [e for e in kept.outcomes if e.chunk.id not in held], completed)
        if not pending:
            return
        effects = self._flow.effects
        rounds = self._rounds.get(name, 0)
        if (effects is None) is not (kept.done is None):
            self._give_back(ledger, kept.claim, pending, "the flow's effects are not what they were", 0.0)
        elif self._retry.exhausted(rounds):
            delay_s = self._retry.delay_s(rounds, self._rand) + 1.0
            self._give_back(ledger, kept.claim, pending, f"not committed in {rounds} rounds", delay_s)
        else:
            self._rounds[name] = rounds + 1  # if this fails, the ledger was there and did not take it
            effects_now = bind_effects(self._flow, kept.done or {})
            ours = ledger.complete(kept.claim, pending, effects_now, self._flow.known_key)
            tell(self._events, self._flow.name, pending, ours)
            logger.info(
                "completed %d records that an earlier life had finished",
                sum(end.chunk.n for end in pending if end.chunk.id in ours),
                extra={"event.action": "work.completed_late", "flow.name": self._flow.name},
            )

    def _give_back(self, ledger: Ledger, claim: Claim, ends: Sequence[ChunkOutcome], why: str, delay_s: float) -> None:
        chunks = [end.chunk for end in ends]
        ledger.release(claim, chunks, delay_s=delay_s)
        logger.error(
            "outcomes of %d chunks that an earlier life had finished are given back: %s",
            len(chunks),
            why,
            extra={"event.action": "claim.not_committed", "flow.name": self._flow.name},
        )


def handled(rows: Sequence[StoredRecord], attempts: Sequence[int], outcomes: Sequence[Taken]) -> Handled:
    """What a flow's effects are to see of a chunk: the Done of each record, and a Record that no handler had."""
    return {
        row.id: (Record(*row, attempt), outcome.done)
        for row, attempt, outcome in zip(rows, attempts, outcomes, strict=False)
        if type(outcome) is Encoded
    }


def refuse_changed(ends: Iterable[ChunkOutcome], done: Handled) -> None:
    """Set aside what was changed after its handler returned it: effects would see another result than is stored."""
    for end in ends:
        changed = {number for number, data in end.results if _changed(done[number][1], data)}
        if not changed:
            continue
        end.results = [(number, data) for number, data in end.results if number not in changed]
        for flow, emits in end.emits.items():
            end.emits[flow] = [(source, new) for source, new in emits if source not in changed]
        reason = "the object that the handler returned was changed afterwards; return a new one for each record"
        end.dead += [DeadLetter(number, "unstorable", done[number][0].attempt, (reason,)) for number in sorted(changed)]


def _changed(done: Done, data: bytes) -> bool:
    try:
        return encode_value(done.data) != data
    except Exception:  # noqa: BLE001 - a flow's object, which could be encoded before
        return True


def bind_effects(flow: Flow, done: Handled, beat: Callable[[], object] = lambda: None) -> Effects | None:
    """The flow's effects as the ledger calls them: with the ids of the records that get a result."""
    effects = flow.effects
    if effects is None:
        return None

    def write(connection: psycopg.Connection[Any], ids: Sequence[int]) -> object:
        process = os.getpid()
        try:
            return effects(connection, [done[record_id] for record_id in ids])
        finally:
            if os.getpid() != process:  # a process that they forked: it must not go on with this connection
                os._exit(RpaError.exit_code)

    return Effects(write, beat)


def tell(events: WorkerEvents, flow: str, ends: Iterable[ChunkOutcome], ours: set[int]) -> None:
    """Say of each chunk that its outcomes are committed, or that they are lost to another worker."""
    known: dict[str, list[str]] = {}
    refused: list[DeadLetter] = []
    for end in ends:
        if end.chunk.id in ours:
            number = len(end.refused)
            events.completed(done=len(end.results) - number, moved=end.n_moved, dead=end.n_dead + number)
            refused += end.refused
            for to, keys in end.known.items():
                known.setdefault(to, []).extend(keys)
        else:
            events.lost(end.chunk.n)
            logger.warning(
                "chunk %d was lost to another worker: the outcomes of its %d records are discarded",
                end.chunk.id,
                end.chunk.n,
                extra={"event.action": "lease.lost", "flow.name": flow},
            )
    for to, keys in known.items():
        events.handed_on_known(to, len(keys))
        logger.warning(
            "%d records were not handed on to %s, which already has their keys (%s%s); see Flow.known_key",
            len(keys),
            to,
            ", ".join(repr(key[:80]) for key in keys[:5]),
            ", ..." if len(keys) > 5 else "",
            extra={"event.action": "record.key_known", "flow.name": flow},
        )
    if refused:
        logger.warning(
            "%d records are set aside at their completion; record %d: %s",
            len(refused),
            refused[0].record_id,
            refused[0].reasons[0],
            extra={"event.action": "record.refused", "flow.name": flow},
        )
