"""A Prefect server that is away: at the start, again and again, for a whole life. The work never waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from rpa_testkit.ports import free_port
from rpa_testkit.prefect_server import PrefectServer, unavailable
from rpa_testkit.waits import until

from .reported import Known, Life

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(unavailable()), reason=unavailable())]
_WORK_S = 20.0  # patience: the server comes only after it, so a wait for the server would not end before


@pytest.fixture
def later_server() -> Iterator[PrefectServer]:
    """A server that has an address and is not started yet."""
    server = PrefectServer(port=free_port())
    yield server
    server.close()


def _told_right(server: PrefectServer, flow: str, lines: int) -> None:
    known = Known(server.api_url)
    run = known.run(flow)
    assert known.states(run["id"]) == ["RUNNING", "COMPLETED"]
    assert known.numbers(run["id"]) == list(range(lines))
    assert len(known.artifacts(run["id"])) == 1
    assert run["labels"]["started_at"] < run["labels"]["ended_at"]
    known.close()


@pytest.mark.requirement("R8.3")
def test_prefect_away_at_the_start(later_server: PrefectServer, live: Callable[..., Life], flow: str) -> None:
    """A life begins and works before there is a server, and ends when there is one: one run, all of it."""
    life = live(later_server.api_url, flow)
    began_s = time.monotonic()
    life.reporting.start()
    life.reporting.begin()
    life.work(700)
    assert time.monotonic() - began_s < _WORK_S
    until(lambda: life.spools.own.entries("prefect")[0].tries > 0, 20, "a delivery that failed")
    later_server.start()
    life.work(700)
    life.reporting.end("completed", "drained")
    life.settle()
    _told_right(later_server, flow, 1400)


@pytest.mark.requirement("R8.3")
def test_prefect_away_for_a_whole_life(
    later_server: PrefectServer, live: Callable[..., Life], flow: str, tmp_path: Path
) -> None:
    """A life that Prefect never heard of is told by the next one, with the times that were true."""
    life = live(later_server.api_url, flow, folder=tmp_path)
    began_s = time.monotonic()
    life.reporting.start()
    life.reporting.begin()
    life.work(700)
    life.reporting.end("completed", "drained")
    assert time.monotonic() - began_s < _WORK_S
    assert not life.reporting.stop(1.0)
    life.close()
    ended_at = time.time()
    later_server.start()
    next_one = live(later_server.api_url, flow, folder=tmp_path)
    next_one.reporting.start()
    next_one.settle()
    _told_right(later_server, flow, 700)
    known = Known(later_server.api_url)
    run = known.run(flow)
    lines = known.lines(run["id"])
    known.close()
    assert all(datetime.fromisoformat(line["timestamp"]).timestamp() <= ended_at for line in lines)
    assert datetime.fromisoformat(run["labels"]["ended_at"]).timestamp() <= ended_at
    assert datetime.fromisoformat(run["end_time"]).timestamp() > ended_at  # the server's own is that of the report


@pytest.mark.requirement("R8.3")
def test_prefect_that_comes_and_goes(later_server: PrefectServer, live: Callable[..., Life], flow: str) -> None:
    """Stopped and killed between two halves of a life, and once more before its end."""
    later_server.start()
    life = live(later_server.api_url, flow)
    life.reporting.start()
    life.reporting.begin()
    life.work(700)
    until(life.drained, 20, "the first half to be delivered")
    life.work(300)
    later_server.kill()
    life.work(300)
    later_server.start()
    life.work(50)
    later_server.stop()
    life.work(50)
    life.reporting.end("completed", "drained")
    later_server.start()
    life.settle()
    _told_right(later_server, flow, 1400)
