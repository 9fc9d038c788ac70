"""Keeping finished work and completing it later, over a ledger that is played."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY
from uuid import uuid4

import psycopg
import pytest

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.clock import SystemClock
from rpa_core.errors import StoreRefused, StoreUnavailable
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.finished import KIND, LateCompletion, SpooledWork
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.kept import decode
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.model import Delivered, Entry, Later, New, Refused, Share
from rpa_core.resilience.spool.spool import Spool
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, Contents, StoredRecord


def _never(record: Record, context: FlowContext) -> Outcome:
    raise AssertionError("no handler runs again")


def _effects(connection: Any, done: Sequence[tuple[Record, Done]]) -> None:
    connection.effects += [(record.id, what.data) for record, what in done]


_PLAIN = Flow(name="act", handle=_never)
_EFFECTS = Flow(name="act", handle=_never, effects=_effects)


class _Ledger:
    """Answers `settle` as told, and notes what is completed and given back."""

    def __init__(self) -> None:
        self.connection = self
        self.done: set[int] = set()
        self.held: set[int] = set()
        self.completed: list[int] = []
        self.released: list[int] = []
        self.effects: list[tuple[int, Any]] = []
        self.error: Exception | None = None
        self.claims: list[Claim] = []
        self.answers = threading.Event()
        self.answers.set()
        self.opened = self.closed = 0

    def read(self, claim: Claim, _: int) -> list[Contents]:
        return [Contents([StoredRecord(chunk.id, None, b"{}")], []) for chunk in claim.chunks]

    def release_others(self, _: Any) -> int:
        return 0

    def promote(self, **_: int) -> int:
        return 0

    def reclaim(self, **_: int) -> Claim | None:
        return self.claims.pop() if self.claims else None

    def claim(self, **_: int) -> None:
        return None

    def open(self) -> Ledger:
        self.opened += 1
        return cast("Ledger", self)

    def settle(self, claim: Claim) -> tuple[set[int], set[int]]:
        mine = {chunk.id for chunk in claim.chunks}
        return self.done & mine, self.held & mine

    def complete(self, claim: Claim, outcomes: Sequence[ChunkOutcome], effects: Any, _: str) -> set[int]:
        self.answers.wait(20)
        if self.error is not None:
            raise self.error
        ids = [end.chunk.id for end in outcomes]
        if effects is not None:
            effects.write(self, [record_id for end in outcomes for record_id, _ in end.results])
        self.completed += ids
        return set(ids)

    def release(self, claim: Claim, chunks: Sequence[Chunk], *, delay_s: float) -> set[int]:
        self.released += [chunk.id for chunk in chunks]
        return set(self.released)

    def close(self) -> None:
        self.closed += 1


class _Events(WorkerEvents):
    def __init__(self) -> None:
        self.done = self.gone = 0

    def completed(self, *, done: int, moved: int, dead: int) -> None:
        self.done += done

    def lost(self, records: int) -> None:
        self.gone += records


class _Points(Checkpoints):
    def __init__(self) -> None:
        self.reached: list[Point] = []

    def reach(self, point: Point) -> None:
        self.reached.append(point)


class _Setup:
    def __init__(self, path: Path | None, *, max_bytes: int = 1_000_000) -> None:
        self.spool = Spool(path, max_bytes=max_bytes, shares={KIND: Share(ratio=1.0)})
        self.ledger = _Ledger()
        self.events = _Events()

    def close(self) -> None:
        self.spool.close()

    def claim(self, *numbers: int) -> tuple[Claim, list[ChunkOutcome], dict[int, tuple[Record, Done]]]:
        chunks = [Chunk(n, 1, n, n, None, None, 1, 1, 1, None) for n in numbers]
        ends = [ChunkOutcome(chunk=chunk, results=[(chunk.id, b'{"of":%d}' % chunk.id)]) for chunk in chunks]
        done = {n: (Record(n, f"k{n}", b"{}"), Done({"of": n})) for n in numbers}
        return Claim(lease_id=uuid4(), chunks=tuple(chunks), taken_at=1.0), ends, done

    def deliver(self, flow: Flow = _PLAIN, **options: Any) -> object:
        late = LateCompletion(flow, self.ledger.open, events=self.events, **options)
        (entry,) = self.spool.heads(KIND)
        return late.deliver(self.spool, entry)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[_Setup]:
    with closing(_Setup(tmp_path / "one.spool")) as made:
        yield made


@pytest.mark.requirement("R8.1")
def test_what_is_kept_is_let_go_when_the_ledger_has_it(setup: _Setup) -> None:
    """One entry for each claim, under its lease, from the first failure to the completion; the points around it."""
    points = _Points()
    work = SpooledWork(setup.spool, _PLAIN, points)
    claim, ends, done = setup.claim(1, 2)
    other, other_ends, _ = setup.claim(3)
    assert work.keep(claim, ends, done)
    assert points.reached == [Point.KEEPING, Point.KEPT]
    assert work.keep(other, other_ends, done)
    assert [entry.stream for entry in setup.spool.heads(KIND)] == [str(claim.lease_id), str(other.lease_id)]
    work.let_go(claim)
    assert [entry.stream for entry in setup.spool.heads(KIND)] == [str(other.lease_id)]
    work.let_go(claim)
    work.let_go(other)
    assert setup.spool.heads(KIND) == []


@pytest.mark.requirement("R8.1")
def test_what_cannot_be_kept_stays_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a folder, without room, or where effects would see something else: False, and nothing half."""
    with (
        closing(_Setup(None)) as nowhere,
        closing(_Setup(tmp_path / "small.spool", max_bytes=300)) as small,
        closing(_Setup(tmp_path / "roomy.spool")) as roomy,
    ):
        claim, ends, done = nowhere.claim(1, 2)
        assert not SpooledWork(nowhere.spool, _PLAIN).keep(claim, ends, done)
        assert not SpooledWork(small.spool, _PLAIN).keep(claim, ends, done)
        odd = done | {2: (Record(2, None, b"{}"), Done((1, 2)))}
        assert not SpooledWork(roomy.spool, _EFFECTS).keep(claim, ends, odd)
        assert [each.spool.heads(KIND) for each in (nowhere, small, roomy)] == [[], [], []]
    assert caplog.text.count("stay in memory alone") == 2


@pytest.mark.requirement("R8.1", "R8.2")
def test_what_the_lease_still_holds_is_completed(setup: _Setup) -> None:
    """Of three chunks one is done, one held and one lost: the held one is completed, effects and all."""
    claim, ends, done = setup.claim(1, 2, 3)
    assert SpooledWork(setup.spool, _EFFECTS).keep(claim, ends, done)
    setup.ledger.done, setup.ledger.held = {1}, {2}
    assert setup.deliver(_EFFECTS) == Delivered()
    assert (setup.ledger.completed, setup.ledger.effects) == ([2], [(2, {"of": 2})])
    assert (setup.events.done, setup.events.gone) == (2, 1)
    assert setup.ledger.opened == setup.ledger.closed == 1


@pytest.mark.requirement("R8.1", "R8.2")
@pytest.mark.parametrize("done", [True, False])
def test_what_is_done_or_lost_is_only_let_go(setup: _Setup, done: bool) -> None:
    """After a COMMIT that nobody heard of, or when another worker took over, nothing is written."""
    claim, ends, handled = setup.claim(1)
    SpooledWork(setup.spool, _EFFECTS).keep(claim, ends, handled)
    setup.ledger.done = {1} if done else set()
    assert setup.deliver(_EFFECTS) == Delivered()
    assert (setup.ledger.completed, setup.ledger.effects, setup.ledger.released) == ([], [], [])


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (psycopg.OperationalError("gone"), Later),
        (StoreUnavailable("gone"), Later),
        (StoreRefused("a password that is being rotated"), Later),
        (psycopg.errors.UndefinedTable("no such table"), Refused),
    ],
)
def test_an_error_is_waited_for_or_tells_why_not(setup: _Setup, error: Exception, verdict: type) -> None:
    """An outage: later. What no waiting cures: a dead letter with the reason; the lease runs out."""
    claim, ends, done = setup.claim(1)
    SpooledWork(setup.spool, _PLAIN).keep(claim, ends, done)
    setup.ledger.held, setup.ledger.error = {1}, error
    assert isinstance(setup.deliver(), verdict)
    assert setup.ledger.closed == 1


@pytest.mark.requirement("R8.1")
def test_outcomes_that_are_refused_again_and_again_are_given_back(setup: _Setup) -> None:
    """The database is there and takes too long: after the set number of rounds the records are worked out again."""
    claim, ends, done = setup.claim(1)
    SpooledWork(setup.spool, _PLAIN).keep(claim, ends, done)
    setup.ledger.held, setup.ledger.error = {1}, psycopg.errors.QueryCanceled("statement timeout")
    late = LateCompletion(_PLAIN, setup.ledger.open, retry=RetryPolicy(max_attempts=2, base_s=0.01, cap_s=0.1))
    (entry,) = setup.spool.heads(KIND)
    assert [type(late.deliver(setup.spool, entry)) for _ in range(3)] == [Later, Later, Delivered]
    assert setup.ledger.released == [1]


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(("before", "after"), [(_PLAIN, _EFFECTS), (_EFFECTS, _PLAIN)])
def test_a_flow_whose_effects_came_or_went_works_it_out_again(setup: _Setup, before: Flow, after: Flow) -> None:
    """A result without its effect, or an effect without its flow's code, is nothing to commit."""
    claim, ends, done = setup.claim(1)
    SpooledWork(setup.spool, before).keep(claim, ends, done)
    setup.ledger.held = {1}
    assert setup.deliver(after) == Delivered()
    assert (setup.ledger.completed, setup.ledger.released) == ([], [1])


@pytest.mark.requirement("R8.1")
def test_an_entry_of_another_version_or_flow_is_set_aside(setup: _Setup) -> None:
    """It says why, and the ledger is not asked."""
    claim, ends, done = setup.claim(1)
    SpooledWork(setup.spool, Flow(name="other", handle=_never)).keep(claim, ends, done)
    found = setup.deliver()
    assert isinstance(found, Refused)
    assert "'other'" in found.reason
    late = LateCompletion(_PLAIN, setup.ledger.open)
    setup.spool.put(New("x", KIND, "z", b'{"format": 9}'))
    newer: Entry = setup.spool.entries(KIND, "z")[0]
    assert late.deliver(setup.spool, newer) == Refused("finished work of format 9; this version reads format 1")
    assert setup.ledger.opened == 0


@pytest.mark.requirement("R8.1", "R5.5")
def test_what_hangs_in_its_commit_can_be_kept_from_outside(setup: _Setup) -> None:
    """A connection that neither answers nor breaks, and the drain's time is up: the outcomes are put on the disk."""
    handled = threading.Event()

    def handle(record: Record, _: FlowContext) -> Done:
        handled.set()
        return Done({"of": record.id})

    flow = Flow(name="act", handle=handle, effects=_effects)
    claim, _, _ = setup.claim(7)
    setup.ledger.claims = [replace(claim, taken_at=SystemClock().monotonic())]
    setup.ledger.answers.clear()
    stop, wake = threading.Event(), threading.Event()
    worker = Worker(
        flow=flow,
        context=FlowContext(flow="act"),
        open_ledger=setup.ledger.open,
        policy=WorkerPolicy(poll_max_s=0.01),
        stop=stop,
        wake=wake,
        events=setup.events,
        held=SpooledWork(setup.spool, flow),
    )
    assert worker.keep_in_hand(), "nothing is in hand yet"
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        assert handled.wait(20)
        while not setup.spool.heads(KIND):  # it is in the handler still, or on its way from there
            assert worker.keep_in_hand()
            threading.Event().wait(0.01)
        assert decode(setup.spool.heads(KIND)[0].body).done == {7: ANY}
        setup.ledger.answers.set()
    finally:
        stop.set()
        wake.set()
        thread.join(20)
    assert setup.ledger.effects == [(7, {"of": 7})]
    assert setup.spool.heads(KIND) == [], "the commit came through after all"
