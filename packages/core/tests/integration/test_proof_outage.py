"""PostgreSQL away for a minute (the short form: 15 s), in the middle of the work and at the start of a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.waits import until

from .engine import Engine, Running
from .proofs import edges, settled_once

_STEADY_AFTER_S = 10.0  # from here on no backoff is still at its beginning
_BACK_S = 20.0  # far from the minute: what waits longer and longer would look again about as late as that
_ONE_MORE = 2  # a second that is counted at both of its ends, and a probe that was on its way


@dataclass(slots=True)
class Watched:
    """A worker during the outage: what liveness answered, and how often its edge was tried, second by second."""

    worker: Running
    edge: str
    live: list[int] = field(default_factory=list)
    tried: list[tuple[float, int]] = field(default_factory=list)

    def tries_in(self, since_s: float, until_s: float) -> tuple[float, int]:
        """Seconds looked at, and tries in them."""
        seen = [(t, n) for t, n in self.tried if since_s <= t <= until_s]
        return seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]


@contextmanager
def _watched(worker: Running, proxy: Proxy, edge: str) -> Iterator[Watched]:
    watched = Watched(worker, edge)
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            watched.live.append(worker.get("/health/live").status)
            stats = proxy.stats(edge)
            watched.tried.append((time.monotonic(), stats.accepted))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()


def _worked_by(engine: Engine, worker: Running) -> bool:
    return bool(
        engine.ask("SELECT 1 FROM rpa.chunk_done WHERE split_part(owner, ':', 2) = %s", str(worker.process.pid))
    )


@pytest.mark.slow
@pytest.mark.requirement("R2.1", "R2.2", "R2.5", "R8.1", "R5.1")
def test_a_minute_without_postgres_ends_nobody(
    private_engine: Engine,
    private_postgres: EmbeddedPostgres,
    counted: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
) -> None:
    """No exit, live throughout, at most a try a second per worker, and work again soon after the return.

    One worker had work in hand when the server went, another one was started while it was away.
    """
    engine, away_s = private_engine, counted(15, 60)
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 5} for number in range(4000)), chunk_size=50)
    with ExitStack() as stack:
        proxy, names, urls = stack.enter_context(edges(engine, 2))
        given: dict[str, Any] = {"claim_records": 100, "lease_ttl": 5, "health_interval": 3}
        early = engine.start("EFFECTS", database_rpa_db_url=urls[0], **given)
        until(lambda: engine.done() >= 200, 30, "some to be done", engine.describe)
        private_postgres.stop("immediate")
        went = time.monotonic()
        late = engine.run_command("EFFECTS", database_rpa_db_url=urls[1], **given)
        watched = [
            stack.enter_context(_watched(worker, proxy, edge)) for worker, edge in ((early, names[0]), (late, names[1]))
        ]
        until(lambda: time.monotonic() - went > away_s, away_s + 10, "the minute to pass", every_s=0.5)
        back = time.monotonic()
        private_postgres.start()
        started = time.monotonic()
        before = engine.done()
        until(lambda: engine.done() > before, 60, "work to go on", engine.describe, every_s=0.05)
        resumed_s = time.monotonic() - started
        until(lambda: _worked_by(engine, late), 60, "the late one to work", engine.describe, every_s=0.05)
        late_s = time.monotonic() - started
        for worker in (early, late):
            until(lambda: worker.get("/health/ready").status == 200, 20, "readiness")  # noqa: B023 - now
        settled_once(engine, 4000, timeout_s=90)
    record_property("resumed_s", [round(resumed_s, 2), round(late_s, 2)])
    for each in watched:
        seconds, tries = each.tries_in(went + _STEADY_AFTER_S, back)
        record_property(f"tries {each.edge}", f"{tries} in {seconds:.0f} s")
        assert set(each.live) == {200}
        assert len(each.live) > 3 * away_s  # asked all along
        assert tries <= seconds + _ONE_MORE
        assert tries >= seconds / 10  # and it did try
        assert each.worker.process.running
    assert max(resumed_s, late_s) < min(_BACK_S, away_s)
