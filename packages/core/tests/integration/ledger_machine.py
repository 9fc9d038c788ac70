"""Every step of a chunk's life, in any order, by three workers, on a real database.

The model is small: who holds which chunk, what was committed, what ended. The database is asked after each step
whether every record is in exactly one place. No lease runs out by itself: a rule lets it run out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rpa_core.checkpoints import Point
from rpa_core.processing import suspects
from rpa_core.store import dead_letters, lookup, retention
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, Rejected, set_aside
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Chunk, ChunkOutcome, Claim

from . import ledger_checks as checks
from .ledger_parts import (
    FLOW,
    LATER_S,
    Engine,
    Holding,
    KilledError,
    Late,
    Trap,
    contents,
    effects,
    end_of,
    fresh,
    outline_of,
)

_WORKERS = 3
_TTL_S = 0.05  # only the grace after a start of the server: leases are stretched as soon as they are taken
_MAX_CLAIMS = 2
_LIVE = st.sampled_from([0, 2, 4])
_ANY = st.integers(0, 7)
# What becomes of a chunk's records, in turn: done, retry soon, retry later, set aside, unstorable.
_PATTERN = st.sampled_from(["d", "dr", "dx", "wd", "db", "dxrd", "ddddb", "rx", "bwd"])
_SHARE = st.sampled_from([4, 3, 2, 4, 1, 0])  # quarters of a chunk that were begun


def _longer(payload: bytes) -> str:
    """Another payload with the same serial."""
    return f'{payload.decode()[:-1]}, "x{len(payload)}": 1}}'


class LedgerMachine(RuleBasedStateMachine):
    """Subclassed with the database and the engine of a run."""

    dsn: ClassVar[str]
    engine: ClassVar[Engine]
    believes: ClassVar[bool] = False  # takes a completion's answer for granted: only the tables can tell, then

    def __init__(self) -> None:
        super().__init__()
        self.admin = connect(self.dsn)
        checks.empty(self.admin)
        self.traps = [Trap() for _ in range(_WORKERS)]
        self.ledgers = [self._open(worker) for worker in range(_WORKERS)]
        self.serial = 0
        self.model = checks.Model()
        self.late: list[Late] = []
        self.holdings: list[Holding] = []
        self.holder: dict[int, UUID] = {}  # chunk -> the lease it is under
        self.owner: dict[UUID, int] = {}
        self.ended: dict[int, UUID] = {}
        self.expired: set[UUID] = set()
        self.rotations = 0

    def _open(self, worker: int) -> Ledger:
        return self.engine.ledger(
            connect(self.dsn), flow=FLOW, owner=f"worker-{worker}", ttl_s=_TTL_S, checkpoints=self.traps[worker]
        )

    @initialize(n=st.integers(2, 6), records=st.sampled_from([1, 3, 50]))
    def begin(self, n: int, records: int) -> None:
        """Something to do, and somebody at it."""
        self._enqueue(n, True, 0, 2)
        self._claim(0, records, 2, 0)

    @precondition(lambda self: self.serial < 5 + 5 * len(self.ended))
    @rule(
        n=st.sampled_from([1, 2, 3, 5, 35]), keyed=st.booleans(), again=st.integers(0, 3), size=st.sampled_from([2, 40])
    )
    def enqueue(self, n: int, keyed: bool, again: int, size: int) -> None:
        """New records, some of them under keys that are known already, in a transaction that commits at once."""
        self._enqueue(n, keyed, again, size)

    def _enqueue(self, n: int, keyed: bool, again: int, size: int) -> None:
        new, records = self._new(n, keyed, again)
        with self.admin.transaction():
            made = self.engine.enqueue(self.admin, records, size)
        checks.expect("accepted and duplicates", tuple(made), (n, len(records) - n))
        self._commit(new)

    @precondition(lambda self: len(self.late) < 2 and self.serial < 10 + 5 * len(self.ended))
    @rule(n=st.integers(1, 4), keyed=st.booleans(), again=st.integers(0, 2))
    def enqueue_and_wait(self, n: int, keyed: bool, again: int) -> None:
        """The same in a transaction that stays open."""
        new, records = self._new(n, keyed, again)
        connection = connect(self.dsn, autocommit=False)
        made = self.engine.enqueue(connection, records, 2)
        checks.expect("accepted and duplicates", tuple(made), (n, len(records) - n))
        self.late.append(Late(connection, new))

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 1), commits=st.sampled_from([True, True, False]))
    def end_late(self, which: int, commits: bool) -> None:
        """The late commit, or no commit at all."""
        late = self.late.pop(which % len(self.late))
        if commits:
            late.connection.commit()
            self._commit(late.records)
        late.connection.close()

    @precondition(lambda self: self.model.unreadable < 3)
    @rule(n=st.integers(1, 2))
    def enqueue_unreadable(self, n: int) -> None:
        """Input that could not be read."""
        new, records = self._new(n, False, 0)
        with self.admin.transaction():
            set_aside(self.admin, FLOW, [Rejected(record.payload, None, ("bad", "worse")) for record in records])
        self.model.unreadable += n
        self._commit(new)

    def _new(self, n: int, keyed: bool, again: int) -> tuple[dict[int, str | None], list[NewRecord]]:
        serials = range(self.serial, self.serial + n)
        self.serial += n
        return fresh(serials, keyed, again, self.model.committed.values())

    def _commit(self, new: dict[int, str | None]) -> None:
        self.model.committed |= new
        self.engine.committed(self.admin)

    @precondition(lambda self: self.model.states["r"])
    @rule(worker=st.integers(0, 2), records=st.sampled_from([1, 3, 50]), chunks=st.integers(1, 4), ahead=st.booleans())
    def claim(self, worker: int, records: int, chunks: int, ahead: bool) -> None:
        """Lease what is ready, from the beginning or from a cursor."""
        self._claim(worker, records, chunks, max(self.model.epochs, default=0) if ahead else 0)

    def _claim(self, worker: int, records: int, chunks: int, cursor: int) -> None:
        claim = self.ledgers[worker].claim(records=records, chunks=chunks, cursor=cursor)
        if claim is not None:
            for chunk in claim.chunks:
                checks.expect(f"holder of ready chunk {chunk.id}", self.holder.get(chunk.id), None)
            self._take(worker, claim, 8 if records == 3 else None)

    @precondition(lambda self: self.expired)
    @rule(worker=st.integers(0, 2), records=st.sampled_from([1, 50]), chunks=st.integers(1, 4))
    def reclaim(self, worker: int, records: int, chunks: int) -> None:
        """Lease what others let run out."""
        self._reclaim(worker, records, chunks)

    def _reclaim(self, worker: int, records: int, chunks: int) -> None:
        overdue = {chunk for chunk, lease in self.holder.items() if lease in self.expired}
        claim = self.ledgers[worker].reclaim(records=records, chunks=chunks)
        taken = {chunk.id for chunk in claim.chunks} if claim else set()
        checks.expect("reclaimed something", bool(taken), bool(overdue))
        checks.expect("reclaimed chunks whose lease holds", taken - overdue, set())
        if claim is not None:
            self._take(worker, claim)

    def _take(self, worker: int, claim: Claim, size_bytes: int | None = None) -> None:
        self._stretch(claim)
        for chunk in claim.chunks:
            checks.expect(f"chunk {chunk.id} ended by", self.ended.get(chunk.id), None)
            self.holder[chunk.id] = claim.lease_id
        self.owner[claim.lease_id] = worker
        found = self.ledgers[worker].read(claim, size_bytes)
        for chunk, (read, unread) in zip(claim.chunks, found, strict=True):
            checks.expect(f"records of chunk {chunk.id}", len(read) + len(unread), chunk.n)
            checks.expect(f"records read of chunk {chunk.id}", bool(read), True)
        self.holdings.append(Holding(worker, claim, found))

    def _stretch(self, claim: Claim) -> None:
        """Time stands still until a rule says otherwise."""
        self.expired.discard(claim.lease_id)
        self.admin.execute(
            "UPDATE rpa.chunk SET lease_until = clock_timestamp() + '1 day' WHERE lease_id = %s AND state = 'l'",
            (claim.lease_id,),
        )

    def _holding(self, which: int) -> Holding:
        """Any claim ever made, newest first; one in two has lost something: zombies act as boldly as the living."""
        stale = [h for h in self.holdings if len(self._owned(h.claim)) < len(h.claim.chunks)]
        chosen = stale if which % 2 else [h for h in self.holdings if h not in stale]
        return (chosen or self.holdings)[-1 - which // 2 % len(chosen or self.holdings)]

    def _zombies(self) -> list[Holding]:
        """Claims that have lost something and have not tried to complete since."""
        return [h for h in self.holdings if not h.spent and len(self._owned(h.claim)) < len(h.claim.chunks)]

    def _owned(self, claim: Claim) -> set[int]:
        return {chunk.id for chunk in claim.chunks if self.holder.get(chunk.id) == claim.lease_id}

    @precondition(lambda self: self.holdings)
    @rule(which=_ANY)
    def run_out(self, which: int) -> None:
        """The worker of a claim is killed or stopped: its leases run out."""
        self._run_out(self._holding(which).claim)

    def _run_out(self, claim: Claim) -> None:
        self.expired.add(claim.lease_id)
        self.admin.execute(
            "UPDATE rpa.chunk SET lease_until = clock_timestamp() - interval '1 hour' WHERE lease_id = %s",
            (claim.lease_id,),
        )

    @precondition(lambda self: self.holder)
    @rule(which=_LIVE, worker=st.integers(0, 2), orderly=st.booleans())
    def hand_over(self, which: int, worker: int, orderly: bool) -> None:
        """The same in one step with what follows: another worker has the chunks, after a crash or a release."""
        holding = self._holding(which)
        if orderly:
            self._release(holding, holding.claim.chunks, 0.0)
            self._claim(worker, 50, 2, 0)
        else:
            self._run_out(holding.claim)
            self._reclaim(worker, 50, 2)

    @precondition(lambda self: self.holdings)
    @rule(which=_ANY)
    def renew(self, which: int) -> None:
        """Only what is still held is renewed."""
        holding = self._holding(which)
        owned = self._owned(holding.claim)
        checks.expect("renewed, still ours", self.ledgers[holding.worker].renew(holding.claim), (owned, owned))
        self._stretch(holding.claim)

    @precondition(lambda self: self.holder)
    @rule(which=_ANY, chunk=st.integers(0, 3), position=st.integers(0, 2))
    def note_progress(self, which: int, chunk: int, position: int) -> None:
        """A suspect's position is written."""
        holding = self._holding(which)
        chosen = holding.claim.chunks[chunk % len(holding.claim.chunks)]
        wrote = self.ledgers[holding.worker].progress(holding.claim, chosen, position)
        checks.expect("progress noted", wrote, chosen.id in self._owned(holding.claim))

    @precondition(lambda self: self.holder)
    @rule(
        which=_LIVE,
        pattern=_PATTERN,
        share=_SHARE,
        parts=st.integers(1, 3),
        blame=st.booleans(),
        killed=st.sampled_from([None, Point.RESULTS_WRITTEN, None, Point.COMMITTED]),
    )
    def complete(self, which: int, pattern: str, share: int, parts: int, blame: bool, killed: Point | None) -> None:
        """End a claim's chunks, in whole or in part; cut or blame a suspect.

        Or be killed after the results were written, or without hearing of the COMMIT, which is then asked after.
        """
        holding = self._holding(which)
        self._complete(holding, self._ends(holding, pattern, share, parts, blame), killed)

    @precondition(lambda self: self._zombies())
    @rule(which=_ANY, pattern=_PATTERN, share=_SHARE)
    def complete_late(self, which: int, pattern: str, share: int) -> None:
        """A zombie wakes and completes what it took long ago."""
        zombies = self._zombies()
        holding = zombies[-1 - which % len(zombies)]
        self._complete(holding, self._ends(holding, pattern, share, 1, False), None)

    @precondition(lambda self: self.holder)
    @rule(which=_LIVE, pattern=_PATTERN, share=st.integers(1, 3))
    def shut_down(self, which: int, pattern: str, share: int) -> None:
        """SIGTERM: the first chunk's finished part is committed with its remainder, the others go back."""
        holding = self._holding(which)
        self._complete(holding, self._ends(holding, pattern, share, 2, False)[:1], None)
        if rest := holding.claim.chunks[1:]:
            self._release(holding, rest, 0.0)

    @precondition(lambda self: self.holdings)
    @rule(which=_ANY, most=st.integers(1, 4), delay_s=st.sampled_from([0.0, LATER_S]))
    def release(self, which: int, most: int, delay_s: float) -> None:
        """Chunks go back; also a second time, because the first answer was not heard."""
        holding = self._holding(which)
        self._release(holding, holding.claim.chunks[:most], delay_s)

    @precondition(lambda self: self.holder)
    @rule(worker=st.integers(0, 2), keeps=st.integers(0, 3))
    def reconnect(self, worker: int, keeps: int) -> None:
        """A worker's connection breaks; it gives back every lease of its own that it does not know of."""
        self._restart(worker)
        mine = next((h.claim for h in reversed(self.holdings) if h.worker == worker), None) if keeps else None
        lease = mine.lease_id if mine else None
        lost = [chunk for chunk, held in self.holder.items() if self.owner[held] == worker and held != lease]
        checks.expect("leases given back", self.ledgers[worker].release_others(mine), len(lost))
        for chunk in lost:
            del self.holder[chunk]

    def _restart(self, worker: int) -> None:
        self.ledgers[worker].close()
        self.ledgers[worker] = self._open(worker)

    def _release(self, holding: Holding, chunks: Sequence[Chunk], delay_s: float) -> None:
        released = self.ledgers[holding.worker].release(holding.claim, chunks, delay_s=delay_s)
        checks.expect("released", released, self._owned(holding.claim) & {chunk.id for chunk in chunks})
        for chunk in released:
            del self.holder[chunk]

    def _complete(self, holding: Holding, ends: list[ChunkOutcome], killed: Point | None) -> None:
        claim, ledger = holding.claim, self.ledgers[holding.worker]
        wanted = self._owned(claim) & {end.chunk.id for end in ends}
        trap = self.traps[holding.worker]
        trap.armed = killed
        holding.spent = True
        try:
            kept = ledger.complete(claim, ends, effects())
        except KilledError:
            kept = wanted if killed is Point.COMMITTED else set()
            self._restart(holding.worker)
        trap.armed = None
        if killed is None and not self.believes:
            checks.expect("completed", kept, wanted)
        for chunk in kept:
            self.holder.pop(chunk, None)
            self.ended[chunk] = claim.lease_id
        if killed is not None:
            done = {chunk.id for chunk in claim.chunks if self.ended.get(chunk.id) == claim.lease_id}
            answer = self.ledgers[holding.worker].settle(claim)
            checks.expect("settled as done, held", answer, (done, self._owned(claim)))

    def _ends(self, holding: Holding, pattern: str, share: int, parts: int, blame: bool) -> list[ChunkOutcome]:
        return [
            (blame and suspects.verdict(chunk, outline_of(content), _MAX_CLAIMS))
            or end_of(chunk, content, holding.claim.lease_id, pattern, share, parts)
            for chunk, content in zip(holding.claim.chunks, holding.contents, strict=True)
        ]

    @precondition(lambda self: self.model.states["w"])
    @rule(due=st.booleans(), records=st.sampled_from([1, 50]), asked=st.booleans())
    def promote(self, due: bool, records: int, asked: bool) -> None:
        """Retries become due, and ready; or somebody asks for them to be."""
        if due:
            self.admin.execute(
                "UPDATE rpa.chunk SET not_before = clock_timestamp() - '1 s'::interval WHERE state = 'w'"
            )
        waiting = "SELECT coalesce(sum(n), 0) FROM rpa.chunk WHERE state = 'w' AND not_before < now()"
        if asked:
            lookup.requeue(self.admin, FLOW)
        else:
            self.ledgers[0].promote(records=records)
        if records > 1:
            checks.expect("still due", checks.count(self.admin, waiting) > 50, False)

    @precondition(lambda self: self.model.dead)
    @rule(some=st.booleans())
    def put_back_dead(self, some: bool) -> None:
        """Dead letters are queued again, all of them or one."""
        dead = [row.record_id for row in lookup.dead_letters(self.admin, FLOW) if row.kind != "unreadable"]
        ids = dead[:1] if some else None
        wanted = (
            len(dead[:1])
            if some
            else checks.count(
                self.admin, "SELECT count(*) FROM rpa.dead_letter WHERE kind <> 'unreadable' AND discarded IS NULL"
            )
        )
        put_back = lookup.put_back(self.admin, FLOW, ids=ids)
        checks.expect("put back", put_back, wanted)
        self.model.put_back += put_back

    @precondition(lambda self: self.model.dead or self.model.unreadable)
    @rule(some=st.booleans(), corrects=st.booleans())
    def discard_or_correct_dead(self, some: bool, corrects: bool) -> None:
        """Dead letters are let go of, or get another payload and are queued again; all of them or one."""
        dead = list(lookup.dead_letters(self.admin, FLOW))[: 1 if some else None]
        if corrects:
            new = [dead_letters.Correction(row.record_id, _longer(row.payload)) for row in dead]
            corrected = dead_letters.correct(self.admin, FLOW, new).corrected
            checks.expect("corrected", sorted(corrected), [row.record_id for row in dead])
            self.model.put_back += len(corrected)
        else:
            counts = dead_letters.discard(self.admin, FLOW, ids=[row.record_id for row in dead])
            checks.expect("discarded", sum(counts.values()), len(dead))

    @precondition(lambda self: self.ended and not self.late and self.rotations < 4)
    @rule(drops=st.booleans())
    def rotate(self, drops: bool) -> None:
        """A new period opens; of the old ones those go that are finished."""
        self.rotations += 1
        if self.rotations < 3:
            retention.rotate(self.admin, period_days=0)
        if not drops:
            return
        closed = contents(self.admin)
        dropped = retention.drop_expired(self.admin, retention_days=0)
        checks.expect("periods dropped", dropped, [period for period, (_, _, done, _) in closed.items() if done])
        for serials, ended, _, discarded in (closed[period] for period in dropped):
            self.model.put_back += discarded
            for serial in serials:
                del self.model.committed[serial]
            for chunk, n_dead in ended.items():
                self.ended.pop(chunk, None)
                self.model.put_back -= n_dead
        self.admin.execute("DELETE FROM machine.effect WHERE NOT EXISTS (SELECT FROM rpa.record WHERE id = record_id)")

    @invariant()
    def every_record_is_in_one_place(self) -> None:
        """The property."""
        checks.check(self.admin, self.model)

    def teardown(self) -> None:
        """Work everything off, unless a step has failed already; each record then has its one outcome."""
        try:
            if sys.exc_info()[0] is None:
                self._drain()
        finally:
            for late in self.late:
                late.connection.close()
            for ledger in self.ledgers:
                ledger.close()
            self.admin.close()

    def _drain(self) -> None:
        while self.late:
            self.end_late(0, True)
        self.admin.execute("UPDATE rpa.chunk SET lease_until = clock_timestamp() - '1 h'::interval WHERE state = 'l'")
        self.expired |= set(self.holder.values())
        lookup.requeue(self.admin, FLOW)
        ledger = self.ledgers[0]
        while claim := ledger.reclaim(records=100, chunks=100) or ledger.claim(records=100, chunks=100):
            self._take(0, claim)
            holding = self.holdings[-1]
            self._complete(holding, self._ends(holding, "d", 4, 1, False), None)
        checks.check(self.admin, self.model, drained=True)
