"""The courier: order within a stream, what waits for what, breaker and backoff, shutdown."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from rpa_core.resilience.breaker import BreakerPolicy, CircuitBreaker
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import shares
from rpa_core.resilience.spool.model import DeadEntry, Delivered, Entry, Later, New, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool

KIND = "prefect"
FAST = RetryPolicy(max_attempts=0, base_s=0.01, cap_s=0.02)


class StillClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


class Receiver:
    """Notes what it is asked; answers by `answers`, by id, else Delivered."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.answers: dict[str, Callable[[], Verdict]] = {}
        self.changed = threading.Condition()

    def __call__(self, spool: Spool, entry: Entry) -> Verdict:
        with self.changed:
            self.got.append(entry.id)
            self.changed.notify_all()
        answer = self.answers.get(entry.id)
        return answer() if answer is not None else Delivered()

    def wait(self, condition: Callable[[list[str]], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.got), 20), self.got


@pytest.fixture
def spool() -> Iterator[Spool]:
    with closing(Spool(None, max_bytes=2**20, shares=shares(None))) as opened:
        yield opened


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def start(spool: Spool, receiver: Receiver) -> Iterator[Callable[..., Courier]]:
    couriers: list[Courier] = []

    def begin(**more: object) -> Courier:
        given = {"policy": FAST, "rand": random.Random(1)} | more
        couriers.append(Courier(KIND, lambda: [spool], receiver, **given))  # type: ignore[arg-type]  # from a dictionary
        couriers[-1].start()
        return couriers[-1]

    yield begin
    for courier in couriers:
        courier.stop(10)


def put(spool: Spool, *names: str) -> None:
    """Streams are named by the first letter."""
    spool.put(*(New(name, KIND, name[0], b"x") for name in names))


@pytest.mark.requirement("R2.3")
def test_streams_are_delivered_in_order(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """Each in the order of its puts; what is put later wakes the courier."""
    put(spool, "a1", "b1", "a2", "b2", "a3")
    courier = start()
    assert courier.flush(20)
    assert [name for name in receiver.got if name[0] == "a"] == ["a1", "a2", "a3"]
    assert [name for name in receiver.got if name[0] == "b"] == ["b1", "b2"]
    put(spool, "c1")
    receiver.wait(lambda got: got[-1:] == ["c1"])
    assert courier.flush(20)
    assert spool.depth(KIND).entries == 0


@pytest.mark.requirement("R2.3")
def test_a_stream_that_waits_blocks_only_itself(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier]
) -> None:
    """The head is tried again, what follows it is not; other streams go on. Tries are counted."""
    receiver.answers["a1"] = lambda: Later("away")
    put(spool, "a1", "a2", "b1", "b2")
    courier = start()
    receiver.wait(lambda got: got.count("a1") >= 5 and "b2" in got)
    assert "a2" not in receiver.got
    assert not courier.flush(1)
    assert spool.heads(KIND)[0].tries >= 5
    del receiver.answers["a1"]
    receiver.wait(lambda got: got[-2:] == ["a1", "a2"])


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("refusals", [1, 8])
def test_the_last_word_outlives_a_moment_of_trouble(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier], refusals: int
) -> None:
    """Refused for now again and again, while the other system is there: tried until it is taken."""
    answers: list[Verdict] = [Later("busy") for _ in range(refusals)]
    receiver.answers["a1"] = lambda: answers.pop() if answers else Delivered()
    put(spool, "a1", "a2")
    assert start(breaker=CircuitBreaker("p", BreakerPolicy(min_calls=50))).finish(20)
    assert receiver.got == ["a1"] * (refusals + 1) + ["a2"]


@pytest.mark.requirement("R8.3")
def test_the_last_word_is_left_to_the_next_life_where_nobody_is_there(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier]
) -> None:
    """The breaker opens, or all is put off beyond the time, or it has ended: nobody waits. The bound ends the rest."""
    hours = 3600.0
    receiver.answers["a1"] = lambda: Later("away")
    put(spool, "a1")
    opened = CircuitBreaker("p", BreakerPolicy(min_calls=2, open_s=hours, open_cap_s=hours))
    assert not start(breaker=opened).finish(hours)
    receiver.answers["a1"] = lambda: Later("in an hour", after_s=2 * hours)
    assert not start().finish(hours)
    ended = start()
    ended.stop(20)
    assert not ended.finish(hours)
    receiver.answers["a1"] = lambda: Later("busy")
    assert not start().finish(0.05)


@pytest.mark.requirement("R2.3")
def test_many_streams_that_wait_do_not_hide_others(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier]
) -> None:
    """More of them than the courier looks at in one go."""
    names = [f"{chr(1000 + number)}1" for number in range(100)]
    for name in names:
        receiver.answers[name] = lambda: Later("away", after_s=3600)
    put(spool, *names, "z1", "z2")
    courier = start()
    receiver.wait(lambda got: "z2" in got)
    assert not courier.flush(10)
    assert sorted(receiver.got) == sorted([*names, "z1", "z2"])


@pytest.mark.requirement("R2.3")
def test_what_is_refused_is_set_aside_and_told(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """With the reason; the next one of the stream follows. What telling raises ends nothing."""
    told: list[DeadEntry] = []

    def tell(dead: DeadEntry) -> None:
        told.append(dead)
        raise ValueError("the teller")

    receiver.answers["a1"] = lambda: Refused("422")
    put(spool, "a1", "a2")
    assert start(on_dead=tell).flush(20)
    assert receiver.got == ["a1", "a2"]
    assert [(dead.entry.id, dead.reason) for dead in told] == [("a1", "422")]
    assert [dead.entry.id for dead in spool.dead()] == ["a1"]


@pytest.mark.requirement("R2.3", "R8.7")
def test_what_the_delivery_raises_counts_as_later(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its trace, and tried again."""
    fails = iter([True, True, False])

    def answer() -> Verdict:
        if next(fails):
            raise RuntimeError("a mistake")
        return Delivered()

    receiver.answers["a1"] = answer
    put(spool, "a1", "a2")
    start()
    receiver.wait(lambda got: got[-1:] == ["a2"])
    assert receiver.got == ["a1", "a1", "a1", "a2"]
    assert "a mistake" in caplog.text


@pytest.mark.requirement("R2.3")
def test_with_a_limit_of_tries_it_ends_as_a_dead_letter(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier]
) -> None:
    """And the stream goes on."""
    receiver.answers["a1"] = lambda: Later("500")
    put(spool, "a1", "a2")
    start(policy=RetryPolicy(max_attempts=3, base_s=0.01, cap_s=0.02))
    receiver.wait(lambda got: got[-1:] == ["a2"])
    assert receiver.got == ["a1", "a1", "a1", "a2"]
    assert [dead.reason for dead in spool.dead()] == ["put off 3 times, the last time because: 500"]


@pytest.mark.requirement("R2.3", "R8.6")
def test_an_open_breaker_pauses_the_kind(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """Nothing is asked while it is open, and no tries are counted; one look at a time brings everything back."""
    clock = StillClock()
    breaker = CircuitBreaker("prefect", BreakerPolicy(min_calls=2, open_s=10, open_cap_s=10), clock=clock)
    for name in ("a1", "b1", "c1"):
        receiver.answers[name] = lambda: Later("away", after_s=0.0)
    put(spool, "a1", "b1", "c1")
    courier = start(breaker=breaker)
    receiver.wait(lambda got: len(got) >= 2)
    assert not courier.flush(5)
    asked = len(receiver.got)
    tries = sum(entry.tries for entry in spool.heads(KIND))
    for _ in range(5):
        assert not courier.flush(5)
    assert len(receiver.got) == asked
    assert sum(entry.tries for entry in spool.heads(KIND)) == tries == asked
    receiver.answers.clear()
    clock.now += 11
    assert courier.flush(20)


@pytest.mark.requirement("R2.3")
def test_a_time_that_was_named_is_honoured(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """Neither a put nor a flush asks before."""
    clock = StillClock()
    receiver.answers["a1"] = lambda: Later("slow down", after_s=30)
    put(spool, "a1")
    courier = start(clock=clock)
    receiver.wait(lambda got: got == ["a1"])
    put(spool, "b1")
    receiver.wait(lambda got: "b1" in got)
    assert not courier.flush(10)
    clock.now += 29
    assert not courier.flush(10)
    assert receiver.got.count("a1") == 1
    del receiver.answers["a1"]
    clock.now += 2
    assert courier.flush(10)
    assert receiver.got.count("a1") == 2


@pytest.mark.requirement("R5.5")
def test_a_flush_tries_what_is_put_off_at_once(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """It does not wait for the backoff, and returns early when everything was tried."""
    receiver.answers["a1"] = lambda: Later("away")
    put(spool, "a1", "b1")
    courier = start(policy=RetryPolicy(max_attempts=0, base_s=3600, cap_s=3600), rand=_Upper())
    receiver.wait(lambda got: "b1" in got)
    assert not courier.flush(600)
    assert receiver.got.count("a1") == 2
    del receiver.answers["a1"]
    assert courier.flush(600)


@pytest.mark.requirement("R2.3")
def test_what_cannot_be_acknowledged_is_not_sent_again(
    spool: Spool, receiver: Receiver, start: Callable[..., Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a while: the receipt is written when there is room."""
    acknowledge = Spool.acknowledge
    failures = iter([SpoolFull("the disk is full")] * 3)

    def fails(self: Spool, *ids: str) -> None:
        if error := next(failures, None):
            raise error
        acknowledge(self, *ids)

    monkeypatch.setattr(Spool, "acknowledge", fails)
    put(spool, "a1", "a2")
    start()
    receiver.wait(lambda got: "a2" in got)
    assert receiver.got == ["a1", "a2"]


@pytest.mark.requirement("R2.3")
def test_a_stream_of_an_older_spool_goes_first(receiver: Receiver) -> None:
    """What goes on in a later life waits for what the earlier one left."""
    with (
        closing(Spool(None, max_bytes=2**20, shares=shares(None))) as older,
        closing(Spool(None, max_bytes=2**20, shares=shares(None))) as newer,
    ):
        receiver.answers["a1"] = lambda: Later("away", after_s=0.0)
        put(older, "a1")
        put(newer, "a2", "b1")
        courier = Courier(KIND, lambda: [older, newer], receiver, policy=FAST)
        courier.start()
        try:
            receiver.wait(lambda got: got.count("a1") >= 3 and "b1" in got)
            assert "a2" not in receiver.got
            receiver.answers.clear()
            receiver.wait(lambda got: got[-1:] == ["a2"])
        finally:
            courier.stop(10)


@pytest.mark.requirement("R5.5")
def test_a_stop_ends_between_two_deliveries(spool: Spool, receiver: Receiver, start: Callable[..., Courier]) -> None:
    """What was not delivered waits for the next process."""
    entered, leave = threading.Event(), threading.Event()

    def answer() -> Verdict:
        entered.set()
        leave.wait(20)
        return Delivered()

    receiver.answers["a1"] = answer
    put(spool, "a1", "a2")
    courier = start()
    assert entered.wait(20)
    courier.stop(0.01)
    leave.set()
    courier.stop(20)
    assert receiver.got == ["a1"]
    assert [entry.id for entry in spool.entries(KIND)] == ["a2"]
    assert not courier.flush(20)


class _Upper(random.Random):
    """The longest delay that jitter allows."""

    def uniform(self, a: float, b: float) -> float:
        return b
