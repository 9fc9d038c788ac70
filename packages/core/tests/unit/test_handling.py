"""One outcome for each record that was begun, whatever a handler does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import errors

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.errors import RecordRejected, TransientError
from rpa_core.processing.flow import Flow, FlowContext, Handler, Record
from rpa_core.processing.handling import Handling
from rpa_core.processing.outcome import Done, Outcome, Retry, SetAside
from rpa_core.store.values import StoredRecord

_CONTEXT = FlowContext(flow="act")


class _Clock:
    """Moves by a second whenever it is looked at: no answer is young enough to be used twice."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1.0
        return self._now

    def utcnow(self) -> Any:
        raise AssertionError("handling needs no wall clock")


class _Answers:
    """`go_on` for so many records."""

    def __init__(self, yes: int) -> None:
        self.left = yes

    def __call__(self) -> bool:
        self.left -= 1
        return self.left >= 0


class _Seen(Checkpoints):
    def __init__(self) -> None:
        self.points: list[Point] = []

    def reach(self, point: Point) -> None:
        self.points.append(point)


def _rows(n: int) -> list[StoredRecord]:
    return [StoredRecord(number, None, b"%d" % number) for number in range(n)]


def _done(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def _handling(
    handle: Handler, *, yes: int = 1000, loop: asyncio.Runner | None = None, batch: bool = False, **more: Any
) -> Handling:
    flow = Flow(name="act", handle=handle, batch=batch, concurrency=more.pop("concurrency", 4))
    return Handling(flow, _CONTEXT, _Answers(yes), loop, more.pop("checkpoints", None), _Clock())


def _act(record: Record, _: FlowContext) -> Outcome:
    return _do(record.payload)


async def _act_async(record: Record, _: FlowContext) -> Outcome:
    await asyncio.sleep(0)
    return _do(record.payload)


def _act_batch(records: Sequence[Record], _: FlowContext) -> Sequence[Outcome]:
    return [_do(record.payload) for record in records]


def _do(number: int) -> Outcome:
    match number:
        case 3:
            raise ValueError("three")
        case 4:
            raise RecordRejected("four", "really")
        case 5:
            return "five"  # type: ignore[return-value]  # a careless handler
    return Done(number)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(("handle", "batch"), [(_act, False), (_act_async, False), (_act_batch, True)])
def test_errors_stay_with_their_record(handle: Handler, batch: bool, loop: asyncio.Runner) -> None:
    """One by one, many at once, in a batch: an exception is a retry, a rejection a dead letter, the rest is done."""
    outcomes = _handling(handle, batch=batch, loop=loop).run(_rows(8))
    assert outcomes == [
        *_done(0, 1, 2),
        Retry("ValueError: three"),
        SetAside(("four", "really")),
        Retry("TypeError: the handler returned str; it must return Done, Retry or SetAside"),
        *_done(6, 7),
    ]


@pytest.mark.requirement("R5.5")
@pytest.mark.parametrize("handle", [_act, _act_async])
@pytest.mark.parametrize("yes", [0, 1, 2])
def test_no_record_is_begun_once_it_is_time_to_stop(handle: Handler, yes: int, loop: asyncio.Runner) -> None:
    """The outcomes cover what was begun, and only that."""
    assert _handling(handle, yes=yes, loop=loop).run(_rows(8)) == _done(*range(yes))


@pytest.mark.requirement("R5.5")
def test_a_batch_is_begun_as_a_whole_or_not_at_all() -> None:
    """A batch handler cannot be stopped in between."""
    assert _handling(_act_batch, yes=0, batch=True).run(_rows(3)) == []
    assert len(_handling(_act_batch, yes=1, batch=True).run(_rows(3))) == 3


_AWAY = [TransientError("away"), errors.AdminShutdown("terminating connection"), psycopg.OperationalError("lost")]


@pytest.mark.requirement("R2.5", "R8.1")
@pytest.mark.parametrize("away", _AWAY, ids=lambda error: type(error).__name__)
def test_what_is_away_concerns_no_record(away: Exception, loop: asyncio.Runner) -> None:
    """The outcomes before it are kept; where there are none, the error is raised: nobody's try is counted."""

    def one(record: Record, _: FlowContext) -> Outcome:
        if record.payload >= 2:
            raise away
        return Done(record.payload)

    async def many(record: Record, context: FlowContext) -> Outcome:
        await asyncio.sleep(0)
        return one(record, context)

    def batch(records: Sequence[Record], context: FlowContext) -> Sequence[Outcome]:
        return [one(record, context) for record in records]

    for handle in (one, many):
        assert _handling(handle, loop=loop).run(_rows(6)) == _done(0, 1)
        with pytest.raises(type(away)):
            _handling(handle, loop=loop).run(_rows(6)[2:])
    with pytest.raises(type(away)):
        _handling(batch, batch=True).run(_rows(6))


@pytest.mark.requirement("R2.5")
def test_many_at_once_begin_no_more_when_something_is_away(loop: asyncio.Runner) -> None:
    """A thousand records and a dependency that is gone: the first few find out, the others are not begun."""
    begun: list[int] = []

    async def handle(record: Record, _: FlowContext) -> Outcome:
        begun.append(record.payload)
        await asyncio.sleep(0)
        raise TransientError("away")

    with pytest.raises(TransientError):
        _handling(handle, loop=loop, concurrency=4).run(_rows(1000))
    assert len(begun) <= 8


@pytest.mark.requirement("R6.1")
def test_no_more_than_the_flows_concurrency_at_once(loop: asyncio.Runner) -> None:
    """Forty records, four at a time, and four indeed."""
    running = most = 0

    async def handle(record: Record, _: FlowContext) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Done(record.payload)

    assert _handling(handle, loop=loop, concurrency=4).run(_rows(40)) == _done(*range(40))
    assert most == 4


@pytest.mark.requirement("R8.7")
def test_a_cancellation_that_a_handler_lets_out_is_a_failed_try(loop: asyncio.Runner) -> None:
    """Its own task was not cancelled; the worker must not take it for the end."""

    async def handle(record: Record, _: FlowContext) -> Outcome:
        if record.payload == 1:
            raise asyncio.CancelledError
        return Done(record.payload)

    handling = _handling(handle, loop=loop)
    assert handling.run(_rows(3)) == [b"0", Retry("CancelledError: "), b"2"]
    assert handling.run_singly(_rows(2)[1]) == Retry("CancelledError: ")


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("culprit", [0, 5, 7])
def test_a_batch_is_halved_until_the_culprit_stands_alone(culprit: int) -> None:
    """Eight records: the culprit is seen at most four times, in batches of 8, 4, 2 and 1."""
    sizes: list[int] = []

    def handle(records: Sequence[Record], _: FlowContext) -> Sequence[Outcome]:
        numbers = [record.payload for record in records]
        if culprit in numbers:
            sizes.append(len(numbers))
            raise KeyError(culprit)
        return [Done(number) for number in numbers]

    outcomes = _handling(handle, batch=True).run(_rows(8))
    assert outcomes == [Retry(f"KeyError: {culprit}") if n == culprit else b"%d" % n for n in range(8)]
    assert sizes == [8, 4, 2, 1]


@pytest.mark.requirement("R8.7")
def test_a_batch_with_a_wrong_number_of_outcomes_is_not_guessed_at() -> None:
    """Three outcomes for four records fit nowhere: halved until each is by itself."""

    def handle(records: Sequence[Record], _: FlowContext) -> Sequence[Outcome]:
        return [Done(record.payload) for record in records if record.payload != 2]

    outcomes = _handling(handle, batch=True).run(_rows(4))
    assert outcomes[2] == Retry("TypeError: the handler returned 0 outcomes for 1 records")
    assert [outcome for n, outcome in enumerate(outcomes) if n != 2] == _done(0, 1, 3)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(("n", "yes", "reached"), [(10, 1000, 1), (1, 1000, 1), (10, 5, 1), (10, 4, 0)])
def test_the_middle_of_a_batch_is_reached_once(n: int, yes: int, reached: int) -> None:
    """Where tests kill and stop workers; not reached where the handling ends before."""
    checkpoints = _Seen()
    _handling(lambda record, _: Done(record.id), yes=yes, checkpoints=checkpoints).run(_rows(n))
    assert checkpoints.points == [Point.MID_BATCH] * reached
