"""The circuit breaker: what it lets through, when it looks, and that nobody is left waiting."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker, CircuitOpen

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(window_s=10, min_calls=3, failure_ratio=0.5, open_s=1, open_cap_s=8, look_s=20)
ONE = BreakerPolicy(min_calls=1, failure_ratio=0.01, open_s=0.25, open_cap_s=2, look_s=10)
STEPS = st.lists(
    st.one_of(
        st.just("call"), st.just("good"), st.just("bad"), st.floats(0.01, 12).map(lambda seconds: round(seconds, 2))
    ),
    max_size=120,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


class Watched:
    """A breaker on a clock of its own, and what it told."""

    def __init__(self, policy: BreakerPolicy = POLICY, seed: int = 1) -> None:
        self.clock = Clock()
        self.told: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = CircuitBreaker(
            "db",
            policy,
            clock=self.clock,
            rand=random.Random(seed),
            on_change=lambda _, before, after: self.told.append((before, after)),
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.breaker.allow()
            self.breaker.failed()

    def pass_turn(self) -> None:
        self.clock.now += self.breaker.retry_after_s()


@pytest.mark.requirement("R8.1")
def test_it_opens_by_share_and_number_of_the_calls_in_the_window() -> None:
    """Too few calls say nothing; good ones count for the service; what is older than the window is forgotten."""
    watched = Watched()
    watched.fail(2)
    assert watched.breaker.state is CLOSED
    watched.clock.now += 10.5
    for _ in range(2):
        watched.breaker.succeeded()
    watched.fail()
    assert watched.breaker.state is CLOSED  # one of three; the old ones are forgotten
    watched.fail()
    assert watched.breaker.state is OPEN
    assert watched.told == [(CLOSED, OPEN)]


@pytest.mark.requirement("R8.1")
def test_an_open_breaker_refuses_and_says_for_how_long() -> None:
    """Nothing is called; the error names the dependency and the time, and survives a pipe."""
    watched = Watched(ONE)
    watched.fail()
    with pytest.raises(CircuitOpen, match=r"db is away; the next look is in 0\.\d s") as caught, watched.breaker.call():
        pytest.fail("it must not be called")
    assert 0.125 <= caught.value.retry_after_s <= 0.25
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.name, again.retry_after_s, again.exit_code) == ("db", caught.value.retry_after_s, 75)


@pytest.mark.requirement("R8.1")
def test_looks_grow_apart_up_to_the_cap_and_a_success_forgets_them() -> None:
    """Pauses double, each somewhere in its upper half; after a recovery they begin anew."""
    watched = Watched()
    watched.fail(3)
    pauses = []
    for _ in range(6):
        pauses.append(watched.breaker.retry_after_s())
        watched.pass_turn()
        watched.fail()
    for pause, bound in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert bound / 2 <= pause <= bound
    watched.pass_turn()
    assert watched.breaker.allow()
    watched.breaker.succeeded()
    assert watched.breaker.state is CLOSED
    watched.fail(3)
    assert watched.breaker.retry_after_s() <= 1


@pytest.mark.requirement("R8.1")
def test_one_look_at_a_time_and_a_lost_one_is_not_waited_for_for_ever() -> None:
    """While somebody looks, others are told how long at most; a look that never ends is followed by another."""
    watched = Watched(ONE)
    watched.fail()
    watched.pass_turn()
    assert watched.breaker.allow()
    assert not watched.breaker.allow()
    assert watched.breaker.retry_after_s() == ONE.look_s
    watched.clock.now += ONE.look_s
    assert watched.breaker.allow()
    assert not watched.breaker.allow()
    watched.breaker.succeeded()
    assert watched.breaker.state is CLOSED


@pytest.mark.requirement("R8.1")
def test_failures_that_began_before_it_opened_change_nothing() -> None:
    """Ten threads find the same thing out at once: that is one opening, not ten."""
    watched = Watched(ONE)
    assert all(watched.breaker.allow() for _ in range(10))
    for _ in range(10):
        watched.breaker.failed()
    assert watched.breaker.retry_after_s() <= ONE.open_s
    assert watched.told == [(CLOSED, OPEN)]


@pytest.mark.requirement("R8.1")
def test_an_answer_closes_it_whenever_it_comes() -> None:
    """A call that began before it opened ends well: the dependency is there."""
    watched = Watched(ONE)
    assert watched.breaker.allow()
    watched.fail()
    watched.breaker.succeeded()
    assert watched.breaker.state is CLOSED


@pytest.mark.requirement("R8.1")
def test_what_counts_as_a_failure_is_the_callers_to_say() -> None:
    """An error of another kind is an answer; being broken off is none."""
    watched = Watched(ONE)
    with pytest.raises(KeyError), watched.breaker.call(OSError):
        raise KeyError
    assert watched.breaker.state is CLOSED
    with pytest.raises(KeyboardInterrupt), watched.breaker.call(OSError):
        raise KeyboardInterrupt
    assert watched.breaker.state is OPEN


@pytest.mark.requirement("R8.1")
@given(steps=STEPS, policy=st.sampled_from([POLICY, ONE]), seed=st.integers(0, 9))
def test_whatever_happens_it_is_neither_pushy_nor_stuck(
    steps: list[str | float], policy: BreakerPolicy, seed: int
) -> None:
    """No call before its time, one look at a time, every change told in order, and always a way back."""
    watched = Watched(policy, seed)
    clock, breaker = watched.clock, watched.breaker
    under_way, look_began = 0, float("-inf")
    for step in steps:
        before, turn_in_s = breaker.state, breaker.retry_after_s()
        if step == "call":
            allowed = breaker.allow()
            assert allowed is (turn_in_s == 0)
            if allowed and before is not CLOSED:
                assert clock.now - look_began >= policy.open_s / 2
                assert breaker.state is HALF_OPEN
                look_began = clock.now
            under_way += allowed
        elif step in ("good", "bad") and under_way:
            under_way -= 1
            breaker.succeeded() if step == "good" else breaker.failed()
            if step == "good":
                assert breaker.state is CLOSED
            elif before is HALF_OPEN:
                assert policy.open_s / 2 <= breaker.retry_after_s() <= policy.open_cap_s
            elif before is OPEN:
                assert breaker.retry_after_s() == turn_in_s
        elif isinstance(step, float):
            clock.now += step
        assert all(a[1] is b[0] for a, b in pairwise(watched.told))
        assert (watched.told[-1][1] if watched.told else CLOSED) is breaker.state
    clock.now += breaker.retry_after_s()
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.state is CLOSED


@pytest.mark.requirement("R8.1")
def test_many_threads_make_few_calls() -> None:
    """Sixteen threads that ask all the time: what gets through is one look after the other, and told in order."""
    told: list[tuple[BreakerState, BreakerState]] = []
    policy = BreakerPolicy(min_calls=1, failure_ratio=0.01, open_s=0.05, open_cap_s=0.1, look_s=5)
    breaker = CircuitBreaker("db", policy, on_change=lambda _, before, after: told.append((before, after)))
    breaker.failed()
    calls, at_once, under_way = 0, 0, 0
    guard, over = threading.Lock(), threading.Event()

    def ask() -> None:
        nonlocal calls, at_once, under_way
        while not over.wait(0.0005):
            if breaker.allow():
                with guard:
                    calls, under_way = calls + 1, under_way + 1
                    at_once = max(at_once, under_way)
                over.wait(0.002)
                with guard:
                    under_way -= 1
                breaker.failed()

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    over.wait(1.0)
    over.set()
    for thread in threads:
        thread.join()
    assert at_once == 1
    assert 5 <= calls <= 1.5 / 0.025
    assert all(a[1] is b[0] for a, b in pairwise(told))


def _waiting(work: Callable[[], object], threads: int = 1) -> list[threading.Thread]:
    started = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started


@pytest.mark.requirement("R2.5", "R8.1")
def test_everybody_wakes_when_it_closes() -> None:
    """Those who wait for their turn and those who wait for its closing, long before their time."""
    breaker = CircuitBreaker("db", BreakerPolicy(min_calls=1, open_s=60, open_cap_s=60))
    breaker.failed()
    stop = threading.Event()
    waits: list[Callable[[], object]] = [
        lambda: breaker.wait_turn(30, stop),
        lambda: breaker.wait_turn(30),
        lambda: breaker.wait_closed(30),
    ]
    threads = [thread for wait in waits for thread in _waiting(wait, 4)]
    threading.Event().wait(0.05)
    breaker.succeeded()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.requirement("R5.5", "R8.1")
def test_a_stop_ends_the_wait() -> None:
    """Nobody waits for a database at a shutdown; and without a stop a wait ends with its time."""
    breaker = CircuitBreaker("db", BreakerPolicy(min_calls=1, open_s=60, open_cap_s=60))
    breaker.failed()
    stop = threading.Event()
    (thread,) = _waiting(lambda: breaker.wait_turn(30, stop))
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert not breaker.wait_turn(0.01)
    assert not breaker.wait_closed(0.01)


@pytest.mark.requirement("R8.1")
def test_when_it_is_time_the_wait_ends_with_a_turn() -> None:
    """The breaker has no timer: who waits finds out, and looks."""
    breaker = CircuitBreaker("db", BreakerPolicy(min_calls=1, open_s=0.05, open_cap_s=0.05))
    breaker.failed()
    assert breaker.wait_turn(5, threading.Event())
    assert breaker.allow()


@pytest.mark.requirement("R8.1")
def test_a_listener_may_use_the_breaker() -> None:
    """It is told outside the lock, in the order of the changes."""
    told: list[tuple[BreakerState, float]] = []
    breaker = CircuitBreaker(
        "db",
        BreakerPolicy(min_calls=1, open_s=0.05, open_cap_s=0.05),
        on_change=lambda name, before, after: told.append((after, breaker.retry_after_s())),
    )
    breaker.failed()
    assert [state for state, _ in told] == [OPEN]


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_s": 0},
        {"min_calls": 0},
        {"min_calls": 10_000},
        {"failure_ratio": 0},
        {"failure_ratio": 1.1},
        {"open_s": 0},
        {"open_s": 2, "open_cap_s": 1},
        {"look_s": 0},
    ],
)
@pytest.mark.requirement("R8.1")
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    """Where it is made."""
    with pytest.raises(ValueError, match="a breaker needs"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]  # any of the fields
