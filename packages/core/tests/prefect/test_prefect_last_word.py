"""The end of a life, told to a Prefect that is busy for a moment: nobody comes afterwards who could tell it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rpa_testkit.waits import until

from .door import Door, Fault
from .reported import Known, Life


@pytest.mark.requirement("R8.3")
def test_an_end_that_is_refused_for_a_moment_is_told_before_the_process_is_gone(
    door: Door, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """503 to the last state again and again, as by a server whose database is locked: the run is ended all the same."""
    life = live(door.api_url, flow)
    life.reporting.start()
    life.reporting.begin()
    life.work(10)
    until(lambda: life.drained() and life.reporting.handler.empty, 20, "the lines to be delivered", life.left)
    busy = door.plan(Fault(times=4, status=503, on=lambda method, path: path.endswith("/set_state")))
    life.reporting.end("completed", "drained")
    assert life.reporting.stop(20.0), life.left()
    assert busy.struck == busy.times
    assert known.states(known.run(flow)["id"]) == ["RUNNING", "COMPLETED"]
