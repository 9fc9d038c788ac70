"""Backoff, budget and the retrying call, on a clock that does not move by itself."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.resilience import retry
from rpa_core.resilience.retry import RetryBudget, RetryPolicy, call


class StillClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


class Waits:
    """Stands in for the pause: notes the delay and moves the clock."""

    def __init__(self, clock: StillClock, stop_at: int | None = None) -> None:
        self.clock, self.stop_at = clock, stop_at
        self.delays: list[float] = []

    def __call__(self, stop: threading.Event, seconds: float) -> bool:
        self.delays.append(seconds)
        self.clock.now += seconds
        return self.stop_at is not None and len(self.delays) >= self.stop_at


class Failing:
    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "done"


@pytest.mark.requirement("R2.2", "R8.1")
@given(
    attempt=st.integers(1, 10_000),
    base=st.floats(0.001, 10),
    cap=st.floats(0.001, 1000),
    seed=st.integers(0, 2**32),
)
def test_delays_are_jittered_within_the_cap(attempt: int, base: float, cap: float, seed: int) -> None:
    """Any delay is between nothing and the bound, which doubles up to the cap; no attempt number overflows."""
    policy = RetryPolicy(max_attempts=0, base_s=base, cap_s=cap)
    bound = policy.bound_s(attempt)
    assert bound <= cap
    assert bound == min(cap, base * 2 ** min(attempt - 1, 62))
    assert 0 <= policy.delay_s(attempt, random.Random(seed)) <= bound


@pytest.mark.requirement("R2.2")
def test_jitter_is_full() -> None:
    """Delays spread over the whole range, so that clients which failed together come back apart."""
    policy, rand = RetryPolicy(max_attempts=0, base_s=1.0, cap_s=8.0), random.Random(1)
    delays = [policy.delay_s(4, rand) for _ in range(2000)]
    assert min(delays) < 0.2
    assert max(delays) > 7.8
    assert 3.8 < sum(delays) / len(delays) < 4.2


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize("wrong", [{"max_attempts": -1}, {"base_s": 0.0}, {"cap_s": -1.0}])
def test_a_senseless_policy_is_refused(wrong: dict[str, float]) -> None:
    """Before it is used, not when it is."""
    with pytest.raises(ValueError, match="retry policy needs"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.requirement("R8.1")
def test_call_retries_what_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns the first success and tells of each wait."""
    clock = StillClock()
    waits = Waits(clock)
    monkeypatch.setattr(retry, "pause", waits)
    told: list[tuple[int, float, str]] = []
    result = call(
        Failing(3, TimeoutError("away")),
        RetryPolicy(max_attempts=5, base_s=1, cap_s=60),
        retry_on=(TimeoutError, ConnectionError),
        stop=threading.Event(),
        clock=clock,
        rand=random.Random(7),
        on_retry=lambda attempt, delay, error: told.append((attempt, delay, str(error))),
    )
    assert result == "done"
    assert [(attempt, text) for attempt, _, text in told] == [(1, "away"), (2, "away"), (3, "away")]
    assert [delay for _, delay, _ in told] == waits.delays


@pytest.mark.requirement("R8.1", "R2.2")
@pytest.mark.parametrize(
    ("error", "options", "calls", "stop_at"),
    [
        (ValueError("wrong"), {}, 1, None),
        (TimeoutError("away"), {}, 4, None),
        (TimeoutError("away"), {"deadline_s": 0.0}, 1, None),
        (TimeoutError("away"), {}, 2, 2),
    ],
)
def test_call_gives_up(
    monkeypatch: pytest.MonkeyPatch, error: Exception, options: dict[str, float], calls: int, stop_at: int | None
) -> None:
    """On a final error at once, after the last attempt, at the deadline, when told to stop: with the error itself."""
    clock = StillClock()
    monkeypatch.setattr(retry, "pause", Waits(clock, stop_at))
    failing = Failing(99, error)
    with pytest.raises(type(error)) as caught:
        call(
            failing,
            RetryPolicy(max_attempts=4, base_s=1, cap_s=60),
            retry_on=lambda seen: isinstance(seen, TimeoutError),
            stop=threading.Event(),
            clock=clock,
            rand=random.Random(7),
            deadline_s=options.get("deadline_s"),
        )
    assert caught.value is error
    assert failing.calls == calls
    assert (calls > 1) == any("gave up after" in note for note in getattr(error, "__notes__", []))


@pytest.mark.requirement("R8.1", "R6.5")
def test_the_budget_allows_a_share_of_what_succeeds() -> None:
    """Ten attempts pay one retry at 0.1; an empty budget refuses and takes nothing."""
    budget = RetryBudget(ratio=0.1, min_per_s=0, clock=StillClock())
    assert budget.try_retry()  # one is there from the start
    assert not budget.try_retry()
    budget.record_attempts(9)
    assert not budget.try_retry()
    budget.record_attempts(1)
    assert budget.try_retry()
    assert not budget.try_retry()


@pytest.mark.requirement("R8.1", "R6.5")
def test_the_budget_grows_with_time_up_to_its_capacity() -> None:
    """A trickle of retries is always possible; a long quiet time does not pay for a storm."""
    clock = StillClock()
    budget = RetryBudget(ratio=0, min_per_s=2, clock=clock, capacity=10)
    assert budget.try_retry(2)
    assert not budget.try_retry()
    clock.now += 1
    assert budget.try_retry(2)
    clock.now += 3600
    assert not budget.try_retry(11)
    assert budget.try_retry(10)
