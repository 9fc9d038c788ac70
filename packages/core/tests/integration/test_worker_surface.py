"""Probes of a busy worker, of one that hangs, and what an idle one notices."""

from __future__ import annotations

import time

import pytest

from rpa_testkit.waits import until

from .engine import Engine, Running

_IDLE_CLAIMS = 12
# Each empty claim doubles the wait for the next, from 5 ms on, within 25 % of it.
_NEXT_POLL_S = 0.75 * 0.005 * 2 ** (_IDLE_CLAIMS - 1)


def _state(worker: Running) -> str:
    for line in worker.get("/metrics").body.decode().splitlines():
        if line.startswith("rpa_worker_state{") and line.endswith(" 1.0"):
            return line.split('"')[1]
    return ""


@pytest.mark.requirement("R5.1", "R5.2")
def test_probes_answer_while_a_handler_burns_cpu(engine: Engine) -> None:
    """Pure Python that never lets go of the interpreter by itself: each of 100 live probes is answered."""
    engine.enqueue({"n": number, "do": "burn", "s": 0.03} for number in range(5000))
    worker = engine.start(lease_ttl=5)
    until(lambda: len(engine.seen()) > 3, 20, "the handler to burn", worker.process.log_text)
    for _ in range(100):
        assert worker.get("/health/live").status == 200
    assert engine.unfinished() > 0
    assert worker.process.running


@pytest.mark.requirement("R5.1")
def test_a_main_loop_that_hangs_fails_liveness_and_ends(engine: Engine) -> None:
    """A handler that never returns: not live past the heartbeat's age, then exit 70 with a dump of all threads."""
    engine.enqueue([{"n": 0, "do": "hang"}])
    worker = engine.run_command(health_heartbeat_max_age=3)
    until(lambda: engine.seen(), 20, "the handler to hang", worker.process.log_text)
    assert worker.get("/health/live").status == 200
    until(lambda: worker.get("/health/live").status == 503, 20, "liveness to fail", worker.process.log_text)
    assert worker.process.wait(20) == 70
    log = worker.process.log_text()
    assert "the main loop has not moved for" in log
    assert "CONTAINER_HEALTH_HEARTBEAT_MAX_AGE" in log
    assert "in act" in log  # where the handler stands


@pytest.mark.slow
@pytest.mark.requirement("R5.4")
def test_a_new_record_wakes_an_idle_worker(engine: Engine) -> None:
    """NOTIFY: done before the worker could have polled again, which is 7.7 s after its last poll at the earliest."""
    worker = engine.start(poll_max=30, lease_ttl=60)
    worker.wait_started()
    before = _let_it_idle(engine, worker, empty_claims=_IDLE_CLAIMS)
    engine.enqueue([{"n": 1}], key="new")
    until(lambda: engine.unfinished() == 0, 60, "the record to be done", engine.describe)
    assert time.monotonic() < before + _NEXT_POLL_S


@pytest.mark.requirement("R5.4")
@pytest.mark.parametrize(("listening", "notifying"), [("false", True), ("true", False)])
def test_without_notifications_polling_finds_new_records(engine: Engine, listening: str, notifying: bool) -> None:
    """Listening is off, or nobody notifies: the worker's own poll is enough."""
    worker = engine.start(poll_max=0.3, notify=listening)
    worker.wait_started()
    _let_it_idle(engine, worker, empty_claims=8)
    engine.enqueue([{"n": 1}], key="new", notify=notifying)
    until(lambda: engine.unfinished() == 0, 20, "the record to be done", engine.describe)


def _let_it_idle(engine: Engine, worker: Running, *, empty_claims: int) -> float:
    """Past the quick polls at the beginning; a moment before the last of so many empty claims."""
    empty, before = 'rpa_claims_total{flow="act",result="empty"}', time.monotonic()

    def idle() -> bool:
        nonlocal before
        asked = time.monotonic()
        if worker.metric(empty) >= empty_claims:
            return True
        before = asked
        return False

    until(idle, 60, f"{empty_claims} empty claims", engine.describe)
    return before


@pytest.mark.requirement("R6.5")
def test_a_long_queue_downstream_pauses_the_worker_before_it(engine: Engine) -> None:
    """Above high water nothing is claimed; below low water it goes on by itself."""
    engine.enqueue(({"n": number} for number in range(900)), flow="later", key="old")
    engine.enqueue({"n": number} for number in range(50))
    worker = engine.start("FORWARD", high_water=600, low_water=300)
    worker.process.wait_for_log("gate.closed", 20)
    until(lambda: _state(worker) == "paused", 20, "the pause", worker.process.log_text)
    before = engine.places()
    engine.enqueue(({"n": number} for number in range(50)), key="more")
    until(lambda: _state(worker) == "paused", 20, "the pause", worker.process.log_text)
    places = engine.places()
    assert (places["done"], places["unfinished"]) == (before["done"], 100 - before["done"])
    assert worker.get("/health/live").status == 200
    engine.ask("DELETE FROM rpa.chunk WHERE flow = (SELECT id FROM rpa.flow WHERE name = 'later')")
    assert engine.settle() == {"done": 100}
    worker.process.wait_for_log("gate.opened", 20)


@pytest.mark.requirement("R6.5")
def test_a_paused_flow_waits_and_goes_on(engine: Engine) -> None:
    """`rpa records pause`: what is in hand is finished, nothing more is claimed until `resume`."""
    engine.enqueue(({"n": number, "ms": 5} for number in range(400)), chunk_size=20)
    worker = engine.start(claim_records=20)
    until(lambda: engine.done() > 0, 20, "some to be done", engine.describe)
    assert engine.rpa("records", "pause", "act").wait(20) == 0
    until(
        lambda: engine.ask("SELECT count(*) FROM rpa.chunk WHERE state = 'l'") == [(0,)], 20, "what is in hand to end"
    )
    done = engine.done()
    until(lambda: _state(worker) == "waiting", 20, "the worker to wait", worker.process.log_text)
    assert 0 < done < 400
    assert engine.done() == done
    shown = engine.rpa("records", "status", "act", "--json")
    assert shown.wait(20) == 0
    assert '"paused": true' in shown.log_text()
    assert engine.rpa("records", "resume", "act").wait(20) == 0
    assert engine.settle() == {"done": 400}


@pytest.mark.requirement("R1.1", "R5.1")
def test_a_second_worker_of_a_machine_starts(engine: Engine) -> None:
    """Neither was given a port: both listen, on ports of their own, and work."""
    workers = [engine.start(health_port=""), engine.start(health_port="")]
    for worker in workers:
        worker.wait_started()
    assert len({worker.port for worker in workers}) == 2
    assert [worker.get("/health/live").status for worker in workers] == [200, 200]


@pytest.mark.requirement("R1.2", "R5.2")
def test_metrics_can_be_turned_off(engine: Engine) -> None:
    """CONTAINER_METRICS_ENABLED=false: the page is gone, the worker works."""
    worker = engine.start(metrics_enabled="false")
    assert worker.get("/metrics").status == 404
    engine.enqueue([{"n": 1}])
    assert engine.settle() == {"done": 1}
