"""From outcomes to what is written: every record in exactly one place, whatever the handler said."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.processing.accounting import Accounting
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.handling import Handling
from rpa_core.processing.outcome import Done, Emit, Outcome, Retry, SetAside
from rpa_core.processing.taking import Taken
from rpa_core.resilience.retry import RetryBudget, RetryPolicy
from rpa_core.store.intake import NewRecord
from rpa_core.store.values import Chunk, ChunkOutcome, StoredRecord


class _Clock:
    def monotonic(self) -> float:
        return 0.0

    def utcnow(self) -> Any:
        raise AssertionError("accounting needs no wall clock")


def _never(record: Record, context: FlowContext) -> Outcome:
    raise AssertionError("accounting calls no handler")


def _accounting(*, budget: float = 1000, next_flow: str | None = None, cap_s: float = 300) -> Accounting:
    return Accounting(
        Flow(name="act", handle=_never, next_flow=next_flow),
        RetryPolicy(max_attempts=3, base_s=1.0, cap_s=cap_s),
        RetryBudget(ratio=0.1, min_per_s=budget, clock=_Clock(), capacity=max(1.0, budget)),
        random.Random(1),
    )


def _rows(n: int) -> list[StoredRecord]:
    return [StoredRecord(number, f"k{number}", b"{}") for number in range(10, 10 + n)]


def _chunk(n: int, attempt: int = 1) -> Chunk:
    chunk = Chunk(1, 1, 10, 9 + n, None, None, n, 1, 1, None)
    return chunk if attempt == 1 else chunk._replace(ids=list(range(10, 10 + n)), tries=[attempt - 1] * n)


def _taken(outcomes: list[Outcome], rows: list[StoredRecord]) -> list[Taken]:
    """What a handler that returns these makes of the first rows."""
    flow = Flow(name="act", handle=lambda record, _: outcomes[record.id - 10])
    return Handling(flow, FlowContext(flow="act"), lambda: True).run(rows[: len(outcomes)])


def _account(outcomes: list[Outcome], *, attempt: int = 1, **options: Any) -> ChunkOutcome:
    rows = _rows(len(outcomes))
    return _accounting(**options).account(_chunk(len(rows), attempt), rows, _taken(outcomes, rows))


_EMITS = st.sampled_from([Emit("later", 1, "k"), Emit("No Flow", 1), Emit("later", {1}), Emit("later", 1, "\ud800")])
_DATA = st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=3), st.just(object()))
_DELAYS = st.one_of(st.none(), st.floats(), st.just("soon"))
_REASONS: st.SearchStrategy[Any] = st.one_of(st.lists(st.text(max_size=3)).map(tuple), st.just((7,)), st.just("text"))
_OUTCOMES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(_DATA, st.lists(_EMITS, max_size=2).map(tuple)).map(lambda made: Done(*made)),
    st.tuples(st.text(max_size=3), _DELAYS).map(lambda made: Retry(*made)),  # type: ignore[arg-type]  # a careless handler
    _REASONS.map(SetAside),
)


@pytest.mark.requirement("R8.7")
@given(
    outcomes=st.lists(_OUTCOMES, max_size=12),
    unbegun=st.integers(0, 5),
    vanished=st.integers(0, 3),
    attempt=st.integers(1, 4),
    parts=st.integers(1, 4),
    budget=st.sampled_from([0.0, 2.0, 1000.0]),
)
def test_every_record_is_in_one_place(
    outcomes: list[Outcome], unbegun: int, vanished: int, attempt: int, parts: int, budget: float
) -> None:
    """Results, dead letters, retries, the remainder and the vanished add up; no id appears twice; texts are texts."""
    rows = _rows(len(outcomes) + unbegun)
    chunk = _chunk(len(rows) + vanished or 1, attempt)
    end = _accounting(budget=budget).account(chunk, rows, _taken(outcomes, rows), parts)
    assert len(end.results) + end.n_moved + end.n_dead == chunk.n
    placed = [record_id for record_id, _ in end.results] + [letter.record_id for letter in end.dead]
    for part in end.moved:
        listed = list(part.ids) if part.ids is not None else list(range(part.lo, part.hi + 1))
        assert (len(listed), min(listed), max(listed)) == (part.n, part.lo, part.hi)
        assert part.tries is None or set(part.tries) <= {attempt, attempt - 1}
        assert 0 <= part.delay_s < 400 * 86_400
        placed += listed
    assert sorted(placed) == [row.id for row in rows]
    for letter in end.dead:
        assert letter.reasons
        for reason in letter.reasons:
            reason.encode()
    ours = {record_id for record_id, _ in end.results}
    assert all(source in ours for emitted in end.emits.values() for source, _ in emitted)


@pytest.mark.requirement("R8.7")
def test_results_and_what_follows_are_encoded_once() -> None:
    """`next_flow` gets the result under the record's key; `emit` goes where it says."""
    end = _account([Done({"a": 1}, (Emit("other", [1], "x"),)), SetAside(("no",))], next_flow="later")
    assert end.results == [(10, b'{"a":1}')]
    assert end.emits == {"later": [(10, NewRecord(b'{"a":1}', "k10"))], "other": [(10, NewRecord(b"[1]", "x"))]}


@pytest.mark.requirement("R8.7")
def test_the_last_try_is_the_last() -> None:
    """Below max_tries a record waits; at max_tries it is given up, with the last reason."""
    assert [part.n for part in _account([Retry("busy")] * 2, attempt=2).moved] == [2]
    end = _account([Retry("busy")], attempt=3)
    assert [(letter.kind, letter.tries, letter.reasons) for letter in end.dead] == [
        ("exhausted", 3, ("gave up after 3 tries: busy",))
    ]


@pytest.mark.requirement("R8.7")
def test_a_wish_to_wait_longer_is_granted() -> None:
    """`after_s` where it is longer than the backoff; what is no time is ignored, a millennium is a year."""
    waits = {
        after_s: _account([Retry("busy", after_s)]).moved[0].delay_s  # type: ignore[arg-type]  # a careless handler
        for after_s in (60.0, 0.0, -5.0, float("inf"), float("nan"), "soon", 1e12)
    }
    assert waits.pop(60.0) == 60.0
    assert waits.pop(1e12) == 366 * 86_400
    assert all(0 < wait_s <= 1.0 for wait_s in waits.values())


@pytest.mark.requirement("R8.7", "R6.5")
def test_retries_beyond_the_budget_wait_the_longest() -> None:
    """The budget holds four: four of ten come back soon, the others wait at least half of the cap."""
    end = _account([Retry("busy")] * 10, budget=4)
    assert [(part.n, part.delay_s >= 150) for part in end.moved] == [(4, False), (6, True)]
    end = _account([Retry("busy")] * 10, budget=0.0)
    assert [(part.n, part.delay_s >= 150) for part in end.moved] == [(1, False), (9, True)]


@pytest.mark.requirement("R5.5", "R8.7")
@pytest.mark.parametrize(("attempts", "left_with"), [(1, 0), (2, 1), (3, 1)])
def test_the_remainder_is_given_back_uncounted(attempts: int, left_with: int) -> None:
    """Two of ten were begun: the others are ready at once, in three parts; what is left of a suspect stays one."""
    rows = _rows(10)
    chunk = _chunk(len(rows))._replace(attempts=attempts)
    end = _accounting().account(chunk, rows, _taken([Done(1), Done(2)], rows), 3)
    assert [(part.lo, part.hi, part.delay_s, part.attempts) for part in end.moved] == [
        (12, 14, 0.0, left_with),
        (15, 17, 0.0, left_with),
        (18, 19, 0.0, left_with),
    ]
