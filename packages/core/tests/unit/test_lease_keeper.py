"""Trust in a lease, on a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest

from rpa_core.errors import StoreUnavailable
from rpa_core.processing.lease import LeaseKeeper
from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Chunk, Claim

_WAIT_S = 5.0


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> Any:
        raise AssertionError("a lease needs no wall clock")


class _Ledger:
    """Answers renewals as told; each answer is awaited by the test, so that nothing depends on time."""

    def __init__(self) -> None:
        self.answers: list[Callable[[set[int]], tuple[set[int], set[int]]]] = []
        self.renewed = threading.Semaphore(0)
        self.closed = 0

    def renew(self, claim: Claim) -> tuple[set[int], set[int]]:
        ids = {chunk.id for chunk in claim.chunks}
        try:
            return self.answers.pop(0)(ids) if self.answers else (ids, ids)
        finally:
            self.renewed.release()

    def close(self) -> None:
        self.closed += 1

    def wait_renewed(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.renewed.acquire(timeout=_WAIT_S)


class _Setup:
    def __init__(self, ttl_s: float) -> None:
        self.clock = _Clock()
        self.ledger = _Ledger()
        self.opened = 0
        self.keeper = LeaseKeeper(open_ledger=self._open, ttl_s=ttl_s, clock=self.clock)

    def _open(self) -> Ledger:
        self.opened += 1
        return cast("Ledger", self.ledger)

    def claim(self, *ids: int) -> Claim:
        chunks = tuple(Chunk(n, 1, n, n, None, None, 1, 1, 1, None) for n in ids)
        return Claim(lease_id=uuid4(), chunks=chunks, taken_at=self.clock.now)


@pytest.fixture
def setup() -> Iterator[_Setup]:
    """A keeper that renews every hundredth of a second; its trust is measured on the test's own clock."""
    made = _Setup(ttl_s=0.03)
    yield made
    made.keeper.stop()


@pytest.mark.requirement("R8.2", "R5.4")
def test_trust_ends_before_the_lease_does() -> None:
    """Nine tenths of the TTL, from the moment before the claim was sent; nothing held is nothing trusted."""
    made = _Setup(ttl_s=10)
    assert not made.keeper.trusted()
    claim = made.claim(1)
    made.clock.now += 3  # the claim took its time
    made.keeper.hold(claim)
    assert made.keeper.held is claim
    made.clock.now = claim.taken_at + 8.9
    assert made.keeper.trusted()
    made.clock.now = claim.taken_at + 9.1
    assert not made.keeper.trusted()


@pytest.mark.requirement("R8.2")
def test_a_renewal_extends_trust_from_when_it_was_sent(setup: _Setup) -> None:
    """Not from when its answer came: a slow answer must not make the lease look younger."""

    def slow(ids: set[int]) -> tuple[set[int], set[int]]:
        setup.clock.now += 0.02
        return ids, ids

    setup.ledger.answers = [slow]
    setup.keeper.hold(setup.claim(1, 2))
    setup.keeper.start()
    setup.ledger.wait_renewed()
    setup.keeper.let_go()
    assert setup.clock.now == pytest.approx(100.02)
    assert setup.keeper.trusted()
    setup.clock.now = 100.0 + 0.027 + 0.001
    assert not setup.keeper.trusted()


@pytest.mark.requirement("R8.2", "R5.4")
def test_a_chunk_that_another_worker_took_ends_trust_at_once(setup: _Setup, caplog: pytest.LogCaptureFixture) -> None:
    """One of two is gone: no further record is begun, and the log says how many were lost."""
    setup.ledger.answers = [lambda ids: ({1}, {1})]
    setup.keeper.hold(setup.claim(1, 2))
    assert setup.keeper.trusted()
    setup.keeper.start()
    setup.ledger.wait_renewed(2)
    setup.keeper.stop()
    assert "another worker took over 1 of 2 chunks" in caplog.text


@pytest.mark.requirement("R8.2")
def test_a_row_that_is_only_locked_is_asked_for_again(setup: _Setup, caplog: pytest.LogCaptureFixture) -> None:
    """Not renewed but still ours: a statement of this very worker holds it. Trust stays, the next try extends it."""
    setup.ledger.answers = [lambda ids: (set(), ids)]
    setup.keeper.hold(setup.claim(1))
    setup.keeper.start()
    setup.ledger.wait_renewed(2)
    assert setup.keeper.trusted()
    assert "lease lost" not in caplog.text


@pytest.mark.requirement("R8.1", "R2.5")
def test_an_outage_of_the_keepers_connection_is_survived(setup: _Setup, caplog: pytest.LogCaptureFixture) -> None:
    """The broken connection is closed, another one opened, and trust goes on where the renewal gets through."""

    def broken(ids: set[int]) -> tuple[set[int], set[int]]:
        raise psycopg.OperationalError("server closed the connection")

    def away(ids: set[int]) -> tuple[set[int], set[int]]:
        raise StoreUnavailable("starting up")

    setup.ledger.answers = [broken, away]
    setup.keeper.hold(setup.claim(1))
    setup.keeper.start()
    setup.ledger.wait_renewed(3)
    setup.keeper.stop()
    assert setup.opened == 3
    assert setup.ledger.closed == 3  # two broken ones, and the last at the end
    assert caplog.text.count("lease not renewed") == 2


@pytest.mark.requirement("R8.2")
def test_what_was_let_go_is_not_renewed(setup: _Setup) -> None:
    """After `let_go` the completion's row locks guard the chunks; renewing them would only wait for it."""
    claim = setup.claim(1)
    setup.keeper.hold(claim)
    assert setup.keeper.let_go() is claim
    assert setup.keeper.let_go() is None
    setup.keeper.start()
    assert not setup.ledger.renewed.acquire(timeout=0.1)


@pytest.mark.requirement("R8.2")
def test_an_answer_for_an_older_claim_changes_nothing(setup: _Setup) -> None:
    """While a renewal was under way the worker went on to its next claim: the late answer is not about that one."""
    second = setup.claim(2)

    def late(ids: set[int]) -> tuple[set[int], set[int]]:
        setup.keeper.hold(second)
        return set(), set()

    setup.ledger.answers = [late]
    setup.keeper.hold(setup.claim(1))
    setup.keeper.start()
    setup.ledger.wait_renewed(2)
    assert setup.keeper.trusted()
    assert setup.keeper.held is second
