"""A handler that computes for half a minute: the process is alive, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from rpa_testkit.waits import until

from .engine import Engine

_ANSWER_S = 5.0  # a small part of the work: an answer that had to wait for the handler's end would take longer


@pytest.mark.slow
@pytest.mark.requirement("R5.1", "R5.2")
def test_liveness_answers_while_one_record_takes_half_a_minute(
    engine: Engine, counted: Callable[[int, int], int], record_property: Callable[[str, object], None]
) -> None:
    """Pure Python in one handler call: asked all along, live each time and in time; the lease is kept, it runs once."""
    busy_s = counted(5, 30)  # in full half of the age at which the main loop's heartbeat is too old
    engine.enqueue([{"n": 0, "do": "burn", "s": busy_s}])
    worker = engine.start(lease_ttl=5)
    until(lambda: engine.seen(), 20, "the handler to begin", worker.process.log_text)
    answers = 0
    began = time.monotonic()
    over = threading.Event()
    while engine.unfinished():
        assert worker.get("/health/live", timeout_s=_ANSWER_S).status == 200
        answers += 1
        assert time.monotonic() - began < 20 * busy_s
        over.wait(0.1)
    lasted_s = time.monotonic() - began
    record_property("burned_s", round(lasted_s, 1))
    record_property("answers", answers)
    assert lasted_s > busy_s / 2, "the handler was not busy for long enough to prove anything"
    assert answers > busy_s / 3, "asked ten times a second, it answered less than once in three"
    assert engine.settle() == {"done": 1}
    assert set(engine.seen().values()) == {1}
    assert worker.process.running
