"""rpa3 and a receiver that is away: no record pays for it, and one that fails by itself still does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

import orjson
import pytest
from pydantic import SecretStr

from rpa_core.clock import SystemClock
from rpa_core.errors import TransientError
from rpa_core.processing.outcome import Done, Outcome, Retry
from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker, CircuitOpen
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_flows.rpa3.delivery import Delivery
from rpa_flows.rpa3.settings import Rpa3Settings
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

_POLICY = BreakerPolicy(window_s=100.0, min_calls=5, failure_ratio=0.5, open_s=1.0, open_cap_s=1.0)
_RECORDS = 200
_POISON = 77


class _Database(Protocol):
    @property
    def dsn(self) -> str: ...


class _Clock(SystemClock):
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Sender:
    """A delivery with a breaker of its own; posts what a worker would post at once."""

    def __init__(self, url: str, loop: asyncio.Runner) -> None:
        self.clock = _Clock()
        self.breaker = CircuitBreaker("receiver", _POLICY, clock=self.clock)
        self.delivery = Delivery(Rpa3Settings(delivery_url=SecretStr(url)), SystemClock(), self.breaker)
        self._loop = loop

    def __call__(self, *keys: str) -> list[Outcome | BaseException]:
        """Post a record under each key at once; what came of it."""

        async def all_of() -> list[Outcome | BaseException]:
            posts = (self.delivery.post(b"{}", key) for key in keys)
            return await asyncio.gather(*posts, return_exceptions=True)

        return self._loop.run(all_of())

    def later(self) -> None:
        """It is time to look again."""
        self.clock.now_s += 2.0


@pytest.fixture
def sender(receiver: Any) -> Iterator[Sender]:
    """Posts to the receiver."""
    with asyncio.Runner() as loop:
        made = Sender(receiver.url, loop)
        yield made
        made.delivery.close()


def _kinds(outcomes: Sequence[Outcome | BaseException]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def _keys(receiver: Any) -> list[str]:
    return [headers["Idempotency-Key"] for headers, _ in receiver.requests]


@pytest.mark.requirement("R2.5", "R8.3")
@pytest.mark.parametrize("status", [500, 503])
def test_failures_of_many_records_are_the_receivers(receiver: Any, sender: Sender, answers: Any, status: int) -> None:
    """Tries are counted until the breaker opens; then nothing is sent and nothing charged until a look succeeds."""
    receiver.answer = answers["reply"](status)
    assert _kinds([sender(key)[0] for key in "abcde"]) == [Retry] * 4 + [TransientError]
    assert _kinds(sender("f", "g")) == [CircuitOpen] * 2
    assert _keys(receiver) == list("abcde")
    sender.later()
    assert _kinds(sender("f", "g")) == [TransientError, CircuitOpen]
    assert _keys(receiver) == list("abcdef")
    sender.later()
    receiver.answer = answers["reply"](200)
    assert _kinds(sender("f")) == [Done]
    assert _kinds(sender(*"abcdefg")) == [Done] * 7


@pytest.mark.requirement("R2.5", "R8.3")
def test_a_connection_that_was_never_made_charges_no_record(receiver: Any, sender: Sender) -> None:
    """Not even the first one, nor a record that is alone; and it opens the breaker."""
    receiver.away()
    try:
        assert _kinds([sender("alone")[0] for _ in range(5)]) == [TransientError] * 5
        assert sender.breaker.state is BreakerState.OPEN
        assert _kinds(sender("alone")) == [CircuitOpen]
        sender.later()
        assert _kinds(sender("alone")) == [TransientError]
    finally:
        receiver.back()
    sender.later()
    assert _kinds(sender("alone")) == [Done]


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("status", [400, 404, 408, 409, 422, 429])
def test_an_answer_about_a_record_says_that_the_receiver_is_there(
    receiver: Any, sender: Sender, answers: Any, status: int
) -> None:
    """However many of them, nobody is kept from delivering."""
    receiver.answer = answers["reply"](status)
    assert not any(isinstance(outcome, TransientError) for outcome in sender(*map(str, range(50))))
    assert sender.breaker.state is BreakerState.CLOSED


@pytest.mark.requirement("R8.7")
def test_a_record_that_fails_alone_uses_up_its_tries(receiver: Any, sender: Sender, answers: Any) -> None:
    """Again and again with no other record between: that may be the record, so every time is a try."""
    receiver.answer = answers["reply"](500)
    assert _kinds([sender("poison")[0] for _ in range(20)]) == [Retry] * 20
    assert sender.breaker.state is BreakerState.CLOSED


@pytest.mark.requirement("R2.5", "R8.7")
def test_a_record_on_which_the_receiver_chokes_does_not_keep_the_others_waiting(
    receiver: Any, sender: Sender, answers: Any
) -> None:
    """It stands first and had the look that failed: the next look is another record's."""
    receiver.answer = answers["reply"](503)
    for key in "abcde":
        sender(key)
    sender.later()
    sender("poison", "a")

    def chokes(handler: BaseHTTPRequestHandler) -> None:
        status = 500 if handler.headers["Idempotency-Key"] == "poison" else 200
        answers["reply"](status)(handler)

    receiver.answer = chokes
    sender.later()
    assert _kinds(sender("poison", "a")) == [CircuitOpen, Done]
    assert _kinds(sender("poison", "a")) == [Retry, Done]


@pytest.mark.requirement("R8.7")
def test_looking_alone_costs_a_try_now_and_then(receiver: Any, sender: Sender, answers: Any) -> None:
    """Nine looks of ten are free: it goes behind the others in the end, and an hour costs but a few tries."""
    receiver.answer = answers["reply"](500)
    for key in "abcde":
        sender(key)
    found = []
    for _ in range(20):
        sender.later()
        found += sender("poison")
    assert Counter(_kinds(found)) == {TransientError: 18, Retry: 2}


def _start(workers: WorkerProcesses, dsn: str, url: str) -> WorkerProcess:
    return workers(
        "rpa3",
        {
            "CONTAINER_DATABASE_RPA_DB_URL": dsn,
            "CONTAINER_DELIVERY_URL": url,
            "CONTAINER_HEALTH_PORT": "0",
            "CONTAINER_LEASE_TTL": "5",
            "CONTAINER_MAX_TRIES": "3",
            "CONTAINER_RETRY_BASE": "0.05",
            "CONTAINER_RETRY_CAP": "0.2",
            "CONTAINER_POLL_MAX": "0.2",
        },
    )


def _fill(dsn: str) -> None:
    payloads = ({"survey": "anes96", "key": f"k{number}"} for number in range(_RECORDS))
    records = [NewRecord(orjson.dumps(payload), payload["key"]) for payload in payloads]
    with connect(dsn) as connection, connection.transaction():
        assert enqueue(connection, "rpa3", records, chunk_size=50).accepted == _RECORDS


def _count(dsn: str, table: str) -> int:
    with connect(dsn) as connection:
        row = connection.execute(f"SELECT count(*) FROM rpa.{table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.slow
@pytest.mark.requirement("R2.5", "R8.3", "R8.7")
@pytest.mark.parametrize("how", ["refused", "503", "reset"])
def test_a_receiver_that_was_away_gets_everything(
    receiver: Any, answers: Any, database: _Database, worker_process: WorkerProcesses, how: str
) -> None:
    """Away for ten rounds, of which three would have set every record aside: no dead letter, 200 deliveries."""
    _fill(database.dsn)
    if how == "refused":
        receiver.away()
    receiver.answer = {"refused": answers["reply"](200), "503": answers["reply"](503), "reset": answers["reset"]}[how]
    worker = _start(worker_process, database.dsn, receiver.url)
    until(lambda: worker.log_text().count("claim.given_back") >= 10, 60, "ten rounds", worker.log_text)
    assert _count(database.dsn, "dead_letter") == 0
    if how == "refused":
        receiver.back()
    receiver.answer = answers["reply"](200)
    receiver.effects.clear()
    until(lambda: _count(database.dsn, "result") == _RECORDS, 90, "everything to be delivered", worker.log_text)
    assert _count(database.dsn, "dead_letter") == 0
    assert len(receiver.effects) == _RECORDS


@pytest.mark.slow
@pytest.mark.requirement("R8.7")
def test_one_record_that_always_fails_is_set_aside_among_good_ones(
    receiver: Any, answers: Any, database: _Database, worker_process: WorkerProcesses
) -> None:
    """The receiver answers 500 to one record alone: that one is a dead letter after its tries, the others are done."""

    def chokes(handler: BaseHTTPRequestHandler) -> None:
        key = f'"k{_POISON}"'.encode()
        with_key = {headers["Idempotency-Key"] for headers, body in list(receiver.requests) if key in body}
        answers["reply"](500 if handler.headers["Idempotency-Key"] in with_key else 200)(handler)

    receiver.answer = chokes
    _fill(database.dsn)
    worker = _start(worker_process, database.dsn, receiver.url)
    until(lambda: _count(database.dsn, "dead_letter") == 1, 60, "the dead letter", worker.log_text)
    until(lambda: _count(database.dsn, "result") == _RECORDS - 1, 60, "the others", worker.log_text)
