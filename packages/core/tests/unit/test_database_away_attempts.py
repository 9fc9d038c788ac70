"""One database of a process, with connections that a test makes up: how often it is asked, and what is heard of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import errors

from rpa_core.errors import RpaError, StoreDenied, StoreRefused, StoreUnavailable
from rpa_core.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpen
from rpa_core.store.database import Database, breaker_policy
from rpa_core.store.lines import Line

DSN = "postgresql://u:old@h/d"
REFUSED = 'connection to server at "h" failed: FATAL:  password authentication failed for user "u"'


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


class FakeConnection:
    def __init__(self, answer: BaseException | None = None) -> None:
        self.answer = answer
        self.autocommit = False
        self.closed = False
        self.adapters = self.info = self
        self.backend_pid = 77

    def register_loader(self, *_: Any) -> None:
        """JSON as bytes; nothing to see here."""

    def execute(self, _: str) -> FakeConnection:
        assert self.autocommit, "a transaction would be left open"
        if self.answer is not None:
            raise self.answer
        return self

    def fetchall(self) -> list[tuple[int]]:
        return [(self.backend_pid,)]

    def close(self) -> None:
        self.closed = True


class Server:
    """What connecting does: `answers` in turn, the last one again and again."""

    def __init__(self, *answers: BaseException | FakeConnection) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def connect(self, dsn: str, **_: Any) -> FakeConnection:
        self.asked.append(dsn)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Setup:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.clock = Clock()
        breaker = CircuitBreaker("rpa_db", breaker_policy(5), clock=self.clock, rand=random.Random(5))
        self.database = Database("rpa_db", DSN, breaker=breaker, clock=self.clock)

    def serve(self, *answers: BaseException | FakeConnection) -> Server:
        server = Server(*answers)
        self._patch.setattr(Line, "connect", server.connect)
        return server

    def try_for(self, seconds: float, step_s: float = 0.05) -> list[RpaError]:
        """Try all the time; what was raised."""
        raised: list[RpaError] = []
        end = self.clock.now + seconds
        while self.clock.now < end:
            try:
                self.database.connect(application_name="t")
            except RpaError as error:
                raised.append(error)
            self.clock.now += step_s
        return raised


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


@pytest.mark.requirement("R2.2", "R8.1")
def test_an_outage_is_looked_at_once_a_second_at_most(setup: Setup) -> None:
    """Asked twenty times a second for a minute; what stands for an attempt says why and when the next one is."""
    server = setup.serve(psycopg.OperationalError("connection refused"))
    raised = setup.try_for(60)
    assert 30 <= len(server.asked) <= 62
    assert all(type(error) is StoreUnavailable for error in raised)
    unasked = [error for error in raised if isinstance(error.__cause__, CircuitOpen)]
    assert len(raised) == len(unasked) + len(server.asked)
    assert "connection refused; rpa_db is away; the next look is in" in str(unasked[0])
    server.answers = [FakeConnection()]
    setup.clock.now += 2
    setup.database.connect(application_name="t")
    assert setup.database.breaker.state is BreakerState.CLOSED
    assert setup.database.trouble is None


@pytest.mark.requirement("R2.2", "R8.1")
def test_a_pooler_before_a_server_that_is_gone_is_away(setup: Setup) -> None:
    """The connection is made and the first question fails: it is closed, and that counts as an outage."""
    half = FakeConnection(errors.ProtocolViolation("server login failed"))
    server = setup.serve(half)
    assert all(isinstance(error, StoreUnavailable) for error in setup.try_for(20))
    assert len(server.asked) <= 22
    assert half.closed


@pytest.mark.requirement("R2.2")
def test_a_connection_is_handed_out_as_it_was_asked_for(setup: Setup) -> None:
    """The question it had to answer leaves no transaction and no other mode behind."""
    setup.serve(FakeConnection())
    assert setup.database.connect(application_name="t").autocommit is False


@pytest.mark.requirement("R1.3", "R8.1")
def test_a_refusal_at_the_start_is_final_and_not_tried_again_at_once(setup: Setup) -> None:
    """StoreRefused each time, one attempt a second; the breaker is not concerned, for the server answers."""
    server = setup.serve(psycopg.OperationalError(REFUSED))
    raised = setup.try_for(10)
    assert {type(error) for error in raised} == {StoreRefused}
    assert 9 <= len(server.asked) <= 11
    assert setup.database.breaker.state is BreakerState.CLOSED


@pytest.mark.requirement("R1.5", "R8.1")
def test_a_refusal_later_is_borne_like_an_outage(setup: Setup) -> None:
    """Whoever waits out a StoreUnavailable waits this out, too; it ends with the refusal."""
    server = setup.serve(FakeConnection(), psycopg.OperationalError(REFUSED))
    setup.database.connect(application_name="t")
    raised = setup.try_for(5)
    assert {type(error) for error in raised} == {StoreDenied}
    assert isinstance(raised[0], StoreUnavailable)
    assert len(server.asked) <= 1 + 6
    server.answers = [FakeConnection()]
    setup.clock.now += 1
    assert setup.try_for(0.1) == []


@pytest.mark.requirement("R1.5")
def test_a_new_password_is_used_beside_the_old_one(setup: Setup) -> None:
    """Whichever is let in: the file may change before the role or after it. Still one attempt a second on average."""
    server = setup.serve(FakeConnection(), psycopg.OperationalError(REFUSED))
    setup.database.connect(application_name="t")
    assert setup.database.adopt("postgresql://u:new@h/d")
    setup.try_for(20)
    tried = server.asked[1:]
    assert len(tried) <= 22
    assert {dsn.partition(":")[2].partition("@")[0].rpartition(":")[2] for dsn in tried} == {"old", "new"}
    right = "postgresql://u:old@h/d"
    setup._patch.setattr(Line, "connect", _only(right))
    raised = setup.try_for(4)
    assert len(raised) < 4 / 0.05
    assert setup.database.dsn == right


def _only(right: str) -> Callable[..., FakeConnection]:
    def connect(dsn: str, **_: Any) -> FakeConnection:
        if dsn != right:
            raise psycopg.OperationalError(REFUSED)
        return FakeConnection()

    return connect


@pytest.mark.requirement("R1.5")
@pytest.mark.parametrize(
    "other", ["postgresql://u:new@elsewhere/d", "postgresql://v:new@h/d", "postgresql://u:new@h/e"]
)
def test_another_database_is_not_adopted(setup: Setup, other: str) -> None:
    """What is finished belongs into the database it came from."""
    assert not setup.database.adopt(other)
    assert setup.database.dsn == DSN


@pytest.mark.requirement("R8.1")
def test_an_attempt_that_is_broken_off_leaves_nobody_waiting(setup: Setup) -> None:
    """Ctrl-C in the middle of a look: the next look comes at its time."""
    setup.serve(psycopg.OperationalError("refused"), KeyboardInterrupt(), FakeConnection())
    setup.try_for(0.01)
    setup.clock.now += 2
    with pytest.raises(KeyboardInterrupt):
        setup.database.connect(application_name="t")
    setup.clock.now += 2
    assert setup.try_for(0.01) == []


@pytest.mark.requirement("R8.1")
def test_many_threads_are_one_look(setup: Setup) -> None:
    """Twenty threads whose connections broke together: once the breaker is open, one of them looks."""
    server = setup.serve(psycopg.OperationalError("refused"))
    setup.try_for(0.01)
    setup.clock.now += 2
    barrier = threading.Barrier(20)

    def attempt() -> None:
        barrier.wait(10)
        with pytest.raises(StoreUnavailable):
            setup.database.connect(application_name="t")

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 2
