"""The worker's loop over claims. It owns no thread; `stop` ends it after the record in hand."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import StoreUnavailable, TransientError
from rpa_core.processing import suspects
from rpa_core.processing.accounting import Accounting, attempts
from rpa_core.processing.backpressure import Gate
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.finished import HeldWork, bind_effects, handled, refuse_changed, tell
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.handling import Handling
from rpa_core.processing.lease import LeaseKeeper
from rpa_core.processing.outcome import Done
from rpa_core.processing.recovery import Recovery
from rpa_core.processing.session import LedgerSession
from rpa_core.processing.sizing import ClaimSize
from rpa_core.processing.taking import Taken
from rpa_core.resilience.retry import RetryBudget, RetryPolicy
from rpa_core.store.ledger import Ledger, parts_of
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, Contents, Outline, StoredRecord
from rpa_core.waits import pause

logger = logging.getLogger("rpa.worker")
_FIRST_POLL_S = 0.005
_MOST_PARTS = 16
_BEAT_S = 1.0  # an idle worker's heartbeat, however seldom it polls


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPolicy:
    """The worker's knobs; times in seconds, sizes in records, `claim_bytes` in bytes of payload or of results."""

    ttl_s: float = 10.0
    claim_records: int = 4000
    claim_bytes: int = 16 * 1024 * 1024
    max_claims: int = 3
    poll_max_s: float = 1.0
    claim_target_s: float = 0.5
    commit_interval_s: float = 3.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_attempts=5, base_s=1.0, cap_s=300.0))
    retry_budget_ratio: float = 0.1
    reconnect: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_attempts=8, base_s=0.2, cap_s=2.0))
    retry_min_per_s: float = 10.0


class Worker:
    """Processes one flow until `stop` is set.

    An async flow runs in `loop`, which stays the caller's. `wake` is set by whoever learns of new records; `gates`
    that are closed keep the worker from claiming. `held` keeps outcomes that an outage leaves uncommitted; without it
    they wait in memory, and so does the end of the worker. `recovery` decides about a database in trouble; without it
    outages are waited for and a refusal ends the worker.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        context: FlowContext,
        open_ledger: Callable[[], Ledger],
        policy: WorkerPolicy,
        stop: threading.Event,
        wake: threading.Event,
        gates: Sequence[Gate] = (),
        events: WorkerEvents | None = None,
        clock: Clock | None = None,
        checkpoints: Checkpoints | None = None,
        loop: asyncio.Runner | None = None,
        held: HeldWork | None = None,
        recovery: Recovery | None = None,
        seed: int | None = None,
    ) -> None:
        self._flow = flow
        self._policy = policy
        self._stop = stop
        self._wake = wake
        self._gates = gates
        self._events = events or WorkerEvents()
        self._clock = clock or SystemClock()
        self._checkpoints = checkpoints or Checkpoints()
        self._held = held
        self._rand = random.Random(seed)  # noqa: S311 - jitter, not secrecy
        self.keeper = LeaseKeeper(open_ledger=open_ledger, ttl_s=policy.ttl_s, clock=self._clock)
        self._session = LedgerSession(
            open_ledger,
            stop=stop,
            clock=self._clock,
            rand=self._rand,
            events=self._events,
            backoff=policy.reconnect,
            recovery=recovery,
        )
        self._handling = Handling(flow, context, self._go_on, loop, self._checkpoints, self._clock)
        budget = RetryBudget(ratio=policy.retry_budget_ratio, min_per_s=policy.retry_min_per_s, clock=self._clock)
        self._accounting = Accounting(flow, policy.retry, budget, self._rand)
        self._size = ClaimSize(
            target_s=policy.claim_target_s, most_records=policy.claim_records, most_bytes=policy.claim_bytes
        )
        self._cursor = 0
        self._due_s = 0.0
        self._cut_at = 0.0
        self._begun = False
        self._careful = False
        self._waited = False
        self._in_hand: tuple[Claim, list[ChunkOutcome], dict[int, tuple[Record, Done]]] | None = None

    def run(self) -> None:
        """Work until stopped. Raises StoreRefused or SchemaError if the database turns us away for good."""
        self.keeper.start()
        poll_s = _FIRST_POLL_S
        try:
            while not self._stop.is_set():
                self._events.beat()
                self._wake.clear()
                worked = self._turn()
                if worked:
                    poll_s = _FIRST_POLL_S
                    continue
                self._idle(poll_s * self._rand.uniform(0.75, 1.25))
                poll_s = min(poll_s * 2, self._policy.poll_max_s)
        finally:
            self._session.close()
            self.keeper.stop()

    def _idle(self, wait_s: float) -> None:
        """Wait until woken, `wait_s` at the most."""
        while wait_s > 0 and not self._wake.wait(min(wait_s, _BEAT_S)):
            self._events.beat()
            wait_s -= _BEAT_S

    def _turn(self) -> bool:
        """Claim and finish once; False if there was nothing to do, or a gate is closed."""
        if any(gate.closed for gate in self._gates):
            self._events.state("paused")
            return False
        self._waited = False
        claim = self._claim()
        if self._waited:  # for the database, long enough: it may have come back just now
            return True
        self._events.claimed(claim.n if claim else 0)
        if claim is None:
            self._events.state("waiting")
            return False
        self._events.state("running")
        claim = self._suspect_alone(claim)
        self.keeper.hold(claim)
        try:
            self._checkpoints.reach(Point.CLAIMED)
            self._process(claim)
        finally:
            self.keeper.let_go()
        return True

    def _claim(self) -> Claim | None:
        """Ready chunks; from time to time, and whenever there are none, what others let run out or what is due."""
        try:
            ledger = self._session.ledger()
            size = {"records": self._size.records, "chunks": self._size.chunks, "size_bytes": self._size.size_bytes}
            if self._careful:
                size |= {"records": 1, "chunks": 1}
            now = self._clock.monotonic()
            if now >= self._due_s:
                self._due_s = now + min(1.0, self._policy.ttl_s / 4) * self._rand.uniform(0.5, 1.0)
                self._cursor = 0
                ledger.promote(records=self._policy.claim_records)
                if claim := ledger.reclaim(**size):
                    return claim
            claim = ledger.claim(cursor=self._cursor, **size)
            if claim is None and self._cursor:
                self._cursor = 0
                claim = ledger.claim(cursor=0, **size)
            if claim is not None:
                self._cursor = claim.chunks[0].id
            return claim
        except psycopg.Error as error:
            self._session.failed(error)
            self._waited = True
            return None
        except StoreUnavailable:
            self._waited = True
            return None

    def _suspect_alone(self, claim: Claim) -> Claim:
        """A suspect is held alone, so that what it does to the worker counts against no other chunk.

        The others go back uncounted, and chunks are claimed one by one until a claim has no suspect.
        """
        accused = [chunk for chunk in claim.chunks if suspects.is_suspect(chunk)]
        self._careful = bool(accused)
        if not accused or len(claim.chunks) == 1:
            return claim
        alone = next((chunk for chunk in accused if chunk.progress is not None), accused[0])
        others = [chunk for chunk in claim.chunks if chunk is not alone]
        self._session.ask(lambda ledger: ledger.release(claim, others), mine=claim)
        return replace(claim, chunks=(alone,))

    def _process(self, claim: Claim) -> None:
        started = self._clock.monotonic()
        contents = self._read(claim)
        if contents is None:  # stopping, or the lease is lost to an outage
            return
        self._handling.encoded_bytes = 0
        self._begun = False  # one record at least is begun, however long the read took
        self._cut_at = self._clock.monotonic() + self._policy.commit_interval_s
        ends: list[ChunkOutcome] = []
        done: dict[int, tuple[Record, Done]] = {}
        left: list[Chunk] = []
        delay_s = 0.0
        for chunk, content in zip(claim.chunks, contents, strict=True):
            if left or (ends and not self._go_on()):
                left.append(chunk)
                continue
            try:
                ends.append(self._chunk(claim, chunk, content, done))
            except (TransientError, psycopg.Error) as error:
                logger.warning(
                    "%s gives records back: %s",
                    self._flow.name,
                    error,
                    extra={"event.action": "claim.given_back", "flow.name": self._flow.name},
                )
                delay_s = self._policy.retry.delay_s(1, self._rand)
                left.append(chunk)
        self._checkpoints.reach(Point.HANDLED)
        handled_s = self._clock.monotonic() - started
        self.keeper.let_go()  # from here on the row locks of the completion keep others away
        self._finish(claim, ends, done)
        if left:
            self._session.ask(lambda ledger: ledger.release(claim, left, delay_s=delay_s), mine=claim)
        records = sum(len(end.results) + len(end.dead) for end in ends)
        self._size.learn(records=records, chunks=max(1, len(ends)), took_s=self._clock.monotonic() - started)
        self._events.handled(records, handled_s)
        if delay_s:
            pause(self._stop, min(delay_s, self._policy.poll_max_s))

    def _read(self, claim: Claim) -> list[Contents] | None:
        """What is to be processed, as much of it as one read may take; of a suspect its outline alone."""
        if suspects.is_suspect(claim.chunks[0]):  # alone, since `_suspect_alone`
            outline = self._session.ask(lambda ledger: ledger.outline(claim.chunks[0]), mine=claim)
            return None if outline is None else [Contents([], outline)]
        started, limit = self._clock.monotonic(), self._size.size_bytes
        contents = self._session.ask(lambda ledger: ledger.read(claim, limit), mine=claim)
        if contents is not None:
            size_bytes = sum(map(_read_bytes, claim.chunks, contents))
            self._size.learn_read(size_bytes=size_bytes, took_s=self._clock.monotonic() - started)
        return contents

    def _chunk(
        self, claim: Claim, chunk: Chunk, content: Contents, done: dict[int, tuple[Record, Done]]
    ) -> ChunkOutcome:
        rows: Sequence[StoredRecord] = content.records
        unread: Sequence[Outline] = content.unread
        if suspects.is_suspect(chunk):
            if end := suspects.verdict(chunk, unread, self._policy.max_claims):
                return end
            rows, outcomes, unread = self._singly(claim, chunk, unread)
        else:
            outcomes = self._handling.run(rows, attempts(chunk, rows))
        if self._flow.effects is not None:
            done.update(handled(rows, attempts(chunk, rows), outcomes))
        parts = self._parts(len(outcomes), len(rows))
        later = parts_of(chunk, unread, self._size.size_bytes, attempts=int(suspects.is_suspect(chunk)))
        return self._accounting.account(chunk, rows, outcomes, parts, later)

    def _singly(
        self, claim: Claim, chunk: Chunk, outline: Sequence[Outline]
    ) -> tuple[list[StoredRecord], list[Taken], Sequence[Outline]]:
        """Read and run one record after the other; what was run, its outcomes, and what was not reached.

        The position is noted before a record is read. A chunk of one names the culprit by itself.
        """
        rows: list[StoredRecord] = []
        outcomes: list[Taken] = []
        read_bytes = 0
        for position, (record_id, size_bytes) in enumerate(outline):
            full = position > 0 and read_bytes + size_bytes > self._size.size_bytes
            if full or not self._go_on():
                return rows, outcomes, outline[position:]
            if len(outline) > 1:
                self._session.ask(lambda ledger, at=position: ledger.progress(claim, chunk, at), mine=claim)  # type: ignore[misc]  # bound now
            row = self._session.ask(lambda ledger, of=record_id: ledger.read_one(chunk, of), mine=claim)  # type: ignore[misc]  # bound now
            if row is None:  # stopping, or gone since
                return rows, outcomes, outline[position:]
            read_bytes += size_bytes
            rows.append(row)
            outcomes.append(self._handling.run_singly(row, attempts(chunk, [row])[0]))
        if len(outline) > 1:
            self._session.ask(lambda ledger: ledger.progress(claim, chunk, None), mine=claim)
        return rows, outcomes, ()

    def _parts(self, begun: int, n: int) -> int:
        """Into how many chunks the rest goes: pieces of one commit interval each, so that idle workers can help."""
        left = n - begun
        if left <= 0 or begun == 0:
            return 1
        return max(1, min(_MOST_PARTS, left // begun))

    def _finish(self, claim: Claim, ends: list[ChunkOutcome], done: dict[int, tuple[Record, Done]]) -> None:
        """Complete, through outages: what is finished is kept until the database says whose it is.

        After the first failure it is kept in the spool as well, where there is one; then a stop need not wait.
        """
        effects = bind_effects(self._flow, done, self._events.beat)
        if effects is not None:
            refuse_changed(ends, done)
        pending, rounds, kept, learned = ends, 0, False, 0
        self._in_hand = claim, ends, done
        with self._events.committing():
            while pending:
                try:
                    ledger = self._session.ledger(mine=claim, insist=not kept)
                    self._tell(pending, ledger.complete(claim, pending, effects, self._flow.known_key))
                    break
                except (psycopg.Error, TransientError) as error:
                    if not isinstance(error, psycopg.Error | StoreUnavailable):  # what the flow's effects need
                        self._give_up(claim, pending, rounds + 1, error)
                        break
                    kept = kept or self._keep(claim, pending, done)
                    if isinstance(error, psycopg.Error):
                        self._session.failed(error, insist=not kept)
                    answer = self._session.ask(lambda ledger: ledger.settle(claim), mine=claim, insist=not kept)
                    if answer is None:  # told to stop; a later life completes it
                        return
                    completed, held = answer
                    self._tell([e for e in pending if e.chunk.id not in held], completed)
                    pending = [end for end in pending if end.chunk.id in held]
                    rounds += 1
                    if effects is not None and effects.learned > learned:
                        learned, rounds = effects.learned, 0  # the next try calls them otherwise
                    if pending and self._policy.reconnect.exhausted(rounds):
                        self._give_up(claim, pending, rounds, error)
                        break
        self._in_hand = None
        if self._held is not None:
            self._held.let_go(claim)

    def keep_in_hand(self) -> bool:
        """Keep what waits for its commit, from another thread: the process is about to end without unwinding.

        True where nothing waits, or it is kept. For a connection that neither answers nor breaks.
        """
        in_hand = self._in_hand
        return in_hand is None or self._keep(*in_hand)

    def _keep(self, claim: Claim, ends: Sequence[ChunkOutcome], done: dict[int, tuple[Record, Done]]) -> bool:
        return self._held is not None and self._held.keep(claim, ends, done)

    def _give_up(self, claim: Claim, ends: Sequence[ChunkOutcome], rounds: int, error: Exception) -> None:
        """The database is there and still does not take the outcomes: let them be worked out again, later."""
        delay_s = self._policy.retry.delay_s(rounds, self._rand) + 1.0
        logger.error(
            "outcomes of %d chunks not committed in %d rounds (%s): given back for %.0f s",
            len(ends),
            rounds,
            error,
            delay_s,
            extra={"event.action": "claim.not_committed", "flow.name": self._flow.name},
        )
        chunks = [end.chunk for end in ends]
        self._session.ask(lambda ledger: ledger.release(claim, chunks, delay_s=delay_s), mine=claim)

    def _tell(self, ends: Sequence[ChunkOutcome], ours: set[int]) -> None:
        tell(self._events, self._flow.name, ends, ours)

    def _go_on(self) -> bool:
        """Whether another record may be begun: always the first one of a claim, then until it is time to commit.

        That is so after the commit interval, and once as many bytes of results wait as one claim may read.
        """
        if self._stop.is_set() or not self.keeper.trusted():
            return False
        self._events.beat()
        enough = self._handling.encoded_bytes >= self._policy.claim_bytes or self._clock.monotonic() >= self._cut_at
        if self._begun and enough:
            return False
        self._begun = True
        return True


def _read_bytes(chunk: Chunk, content: Contents) -> int:
    """How many bytes were read of a chunk; counted only where nothing has counted them before."""
    if chunk.size_bytes is not None and not content.unread:
        return chunk.size_bytes
    return sum(len(record.payload) for record in content.records)
