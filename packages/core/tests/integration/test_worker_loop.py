"""The worker's loop over a ledger that is played: an idle one, and one with suspects in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from rpa_core.processing import worker as module
from rpa_core.processing.events import WorkerEvents
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Chunk, ChunkOutcome, Claim, Contents, Outline, StoredRecord
from rpa_testkit.waits import until


class _EmptyLedger:
    """Nothing to do, however often one asks."""

    def release_others(self, _: Any) -> int:
        return 0

    def promote(self, **_: int) -> int:
        return 0

    def reclaim(self, **_: int) -> None:
        return None

    def claim(self, **_: int) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""


class _Counting(WorkerEvents):
    def __init__(self) -> None:
        self.beats = self.claims = 0

    def beat(self) -> None:
        self.beats += 1

    def claimed(self, records: int) -> None:
        assert records == 0
        self.claims += 1


def _handle(record: Record, _: FlowContext) -> Done:
    raise AssertionError(f"there is no record {record}")


@pytest.mark.requirement("R5.1", "R5.5")
def test_it_beats_between_two_polls_and_ends_when_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that is a minute away holds up neither liveness nor the end."""
    monkeypatch.setattr(module, "_BEAT_S", 0.01)
    monkeypatch.setattr(module, "_FIRST_POLL_S", 60.0)
    stop, wake, events = threading.Event(), threading.Event(), _Counting()
    worker = Worker(
        flow=Flow(name="act", handle=_handle),
        context=FlowContext(flow="act"),
        open_ledger=lambda: cast("Ledger", _EmptyLedger()),
        policy=WorkerPolicy(poll_max_s=60.0),
        stop=stop,
        wake=wake,
        events=events,
    )
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: events.beats >= 10, 20, "ten heartbeats")
    assert events.claims == 1
    wake.set()
    until(lambda: events.claims == 2, 20, "a claim after being woken")
    stop.set()
    wake.set()
    thread.join(5)
    assert not thread.is_alive()


class _OneClaim(_EmptyLedger):
    """Hands out one claim, then nothing; notes what is asked for, read, given back and completed."""

    def __init__(self, *chunks: Chunk) -> None:
        self._claims = [Claim(lease_id=uuid4(), chunks=chunks, taken_at=float("inf"))]
        self.sizes: list[tuple[int, int]] = []
        self.given_back: list[int] = []
        self.completed: list[int] = []

    def claim(self, *, records: int, chunks: int, **_: int) -> Claim | None:  # type: ignore[override]  # has something
        self.sizes.append((records, chunks))
        return self._claims.pop() if self._claims else None

    def release(self, _: Claim, chunks: Sequence[Chunk], **__: float) -> set[int]:
        self.given_back += [chunk.id for chunk in chunks]
        return set(self.given_back)

    def read(self, claim: Claim, _: int) -> list[Contents]:
        return [Contents([StoredRecord(chunk.lo, None, b"{}")], []) for chunk in claim.chunks]

    def outline(self, chunk: Chunk) -> list[Outline]:
        return [Outline(chunk.lo, 2)]

    def read_one(self, chunk: Chunk, record_id: int) -> StoredRecord:
        return StoredRecord(record_id, None, b"{}")

    def complete(self, claim: Claim, outcomes: Sequence[ChunkOutcome], *_: object) -> set[int]:
        assert [chunk.id for chunk in claim.chunks] == [outcome.chunk.id for outcome in outcomes]
        self.completed += [outcome.chunk.id for outcome in outcomes]
        return set(self.completed)


def _chunk(number: int, *, attempts: int, progress: int | None = None) -> Chunk:
    return Chunk(number, 1, number, number, None, None, 1, 1, attempts, progress)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("attempts", "noted", "completed", "given_back"),
    [
        ([1, 1, 1], None, [1, 2, 3], []),
        ([1, 2, 2], None, [2], [1, 3]),
        ([2, 2, 2], 3, [3], [1, 2]),
        ([4, 1, 1], None, [1], [2, 3]),
    ],
)
def test_a_suspect_is_worked_on_alone(
    attempts: list[int], noted: int | None, completed: list[int], given_back: list[int]
) -> None:
    """The others of its claim go back before it is touched, one with a noted position first; then one at a time."""
    chunks = [
        _chunk(number, attempts=tried, progress=0 if number == noted else None)
        for number, tried in enumerate(attempts, 1)
    ]
    ledger = _OneClaim(*chunks)
    stop, wake = threading.Event(), threading.Event()
    worker = Worker(
        flow=Flow(name="act", handle=lambda record, _: Done(record.id)),
        context=FlowContext(flow="act"),
        open_ledger=lambda: cast("Ledger", ledger),
        policy=WorkerPolicy(poll_max_s=0.01),
        stop=stop,
        wake=wake,
    )
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: len(ledger.sizes) >= 2, 20, "the claim after it")
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert ledger.completed == completed
    assert ledger.given_back == given_back
    assert (ledger.sizes[1] == (1, 1)) == bool(given_back)
