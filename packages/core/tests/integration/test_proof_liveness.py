"""A handler that computes for half a minute: the process is alive, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from rpa_testkit.waits import until

from .engine import Engine

_BUSY_S = 30
_SAMPLE_ROUNDS = 2_000_000
_ANSWER_S = 1.0  # the shortest time that probes are given by default


def _rounds(seconds: float) -> int:
    """How often the flow's loop goes round in about so many seconds, here and now."""
    began, total = time.perf_counter(), 0
    for number in range(_SAMPLE_ROUNDS):
        total += number * number % 7
    return round(_SAMPLE_ROUNDS * seconds / (time.perf_counter() - began))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.requirement("R5.1", "R5.2")
def test_liveness_answers_while_one_record_takes_half_a_minute(
    engine: Engine, counted: Callable[[int], int], record_property: Callable[[str, object], None]
) -> None:
    """Pure Python in one handler call: asked all along, live each time and in time; the lease is kept, it runs once."""
    busy_s = max(3, counted(_BUSY_S))
    engine.enqueue([{"n": 0, "do": "burn", "rounds": _rounds(busy_s)}])
    worker = engine.start(lease_ttl=5)
    until(lambda: engine.seen(), 20, "the handler to begin", worker.process.log_text)
    took_s: list[float] = []
    began = time.monotonic()
    over = threading.Event()
    while engine.unfinished():
        asked = time.perf_counter()
        assert worker.get("/health/live").status == 200
        took_s.append(time.perf_counter() - asked)
        assert time.monotonic() - began < 6 * busy_s
        over.wait(0.1)
    lasted_s = time.monotonic() - began
    took_s.sort()
    record_property("burned_s", round(lasted_s, 1))
    record_property("live_ms_p50_max", [round(took_s[len(took_s) // 2] * 1000, 1), round(took_s[-1] * 1000, 1)])
    assert lasted_s > busy_s / 2, "the loop was not long enough to prove anything"
    assert took_s[-1] < _ANSWER_S
    assert engine.settle() == {"done": 1}
    assert set(engine.seen().values()) == {1}
    assert worker.process.running
