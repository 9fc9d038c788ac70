"""SIGTERM, SIGINT, SIGHUP and SIGQUIT: finish what is in hand, commit it, give the rest back, end in time."""

from __future__ import annotations

import os
import random
import signal
import sys

import pytest

from rpa_core.runtime.signals import Signals
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from .engine import FLOWS, Engine

_CHUNKS = "SELECT state::text, attempts, lease_id, owner, sum(n) FROM rpa.chunk GROUP BY 1, 2, 3, 4"


@pytest.mark.requirement("R5.5", "R5.1")
@pytest.mark.parametrize(
    ("flow", "chunk_size", "name"),
    [("ACT", 1000, "SIGTERM"), ("ASYNC", 1000, "SIGINT"), ("BATCH", 20, "SIGHUP"), ("ACT", 1000, "SIGQUIT")],
)
def test_a_drain_commits_what_is_finished_and_gives_back_the_rest(
    engine: Engine, flow: str, chunk_size: int, name: str
) -> None:
    """1,000 slow records, stopped in the middle: not ready at once, live to the end, exit 0, nothing counted."""
    per_batch = 1 if flow == "BATCH" else 200  # ms; a batch is begun and finished as a whole
    engine.enqueue(
        ({"n": number, "ms": 1500 if number == 5 else per_batch} for number in range(1000)), chunk_size=chunk_size
    )
    worker = engine.start(flow, shutdown_timeout=60, stop_grace=90)
    until(lambda: sum(engine.seen().values()) >= 6, 20, "the slow record", worker.process.log_text)
    assert worker.get("/health/ready").status == 200
    os.kill(worker.process.pid, signal.Signals[name])
    until(lambda: worker.get("/health/ready").status == 503, 20, "readiness to fail")
    assert worker.get("/health/live").status == 200
    assert worker.process.wait(30) == 0
    places = engine.places()
    assert places["done"] == len(engine.seen()) == sum(engine.seen().values()) < 100
    assert places["unfinished"] == 1000 - places["done"]
    assert engine.ask(_CHUNKS) == [("r", 0, None, None, places["unfinished"])]


@pytest.mark.requirement("R5.5")
def test_a_handler_that_never_returns_does_not_hold_up_the_end(engine: Engine) -> None:
    """After the shutdown timeout: leases given back uncounted, exit code 75, a line in the log."""
    engine.enqueue([{"n": 0, "do": "hang"}, {"n": 1}])
    worker = engine.run_command(shutdown_timeout=1, lease_ttl=60)
    until(lambda: engine.seen(), 20, "the handler to hang", worker.process.log_text)
    worker.process.terminate()
    assert worker.process.wait(30) == 75
    assert "drain took longer than 1.0 s: giving 2 records back" in worker.process.log_text()
    assert engine.ask(_CHUNKS) == [("r", 0, None, None, 2)]


@pytest.mark.requirement("R5.5")
def test_under_nohup_the_end_of_the_terminal_is_ignored() -> None:
    """A signal that the process was started to ignore stays ignored; otherwise it is taken, and given back."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for ignored in (True, False):
            signals = Signals(lambda _: None)
            signals.install()
            taken = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
            signals.remove()
            assert taken is not ignored
            if ignored:
                assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.requirement("R5.5")
def test_a_later_signal_ends_the_process_at_once(engine: Engine) -> None:
    """128 + 15: the shell's way to say that SIGTERM ended it. One that comes with the first is the same one."""
    engine.enqueue([{"n": 0, "do": "hang"}])
    worker = engine.start(shutdown_timeout=120, stop_grace=150)
    until(lambda: engine.seen(), 20, "the handler to hang", worker.process.log_text)
    os.kill(worker.process.pid, signal.SIGTERM)
    os.kill(worker.process.pid, signal.SIGINT)
    worker.process.wait_for_log("draining", 20)
    assert worker.get("/health/live").status == 200
    assert worker.process.log_text().count("worker.draining") == 1

    def told_again() -> bool:
        worker.process.terminate()
        return not worker.process.running

    until(told_again, 20, "the end", worker.process.log_text, every_s=0.1)
    assert worker.process.wait(20) == 143


@pytest.mark.slow
@pytest.mark.requirement("R5.5", "R3.1")
def test_drains_at_random_moments_lose_and_repeat_nothing(engine: Engine) -> None:
    """Ten times under full load, beside a worker that stays: exit 0 each time, and every record handled once."""
    rand = random.Random(20)
    n = 0
    engine.make_effect_table()

    def load(some: int) -> int:
        engine.enqueue(({"n": number, "ms": 1} for number in range(some)), chunk_size=300, key=f"from{n}-")
        return n + some

    n = load(1500)
    engine.start("EFFECTS", claim_records=600)
    for round_ in range(10):
        worker = engine.start("EFFECTS", claim_records=600)
        worker.process.wait_for_log("listening on", 20)  # it hears signals from before then on
        while engine.unfinished() < 1500:
            n = load(1500)
        enough = sum(engine.seen().values()) + rand.randrange(1, 700)
        until(lambda: sum(engine.seen().values()) >= enough, 20, "more work", engine.describe)  # noqa: B023 - called here
        if round_ % 2:
            worker.wait_started()
        worker.process.terminate()
        assert worker.process.wait(30) == 0, worker.process.log_text()
    assert engine.settle(60) == {"done": n}
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == n
    assert set(engine.seen().values()) == {1}
    assert engine.ask("SELECT max(attempts) FROM rpa.chunk_done") == [(1,)]


@pytest.mark.requirement("R5.5")
def test_sigint_drains_a_worker_that_was_started_with_it_ignored(
    engine: Engine, worker_process: WorkerProcesses
) -> None:
    """As `&` in a script and nohup start programs."""
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    argv = [sys.executable, "-c", f"import os, signal, sys; {ignore}", "-m", "rpa_testkit.worker", "worker_flows:ACT"]
    worker = worker_process("", engine.environment(), pythonpath=FLOWS, argv=argv)
    worker.wait_for_log("worker.started", 20)
    worker.interrupt()
    assert worker.wait(20) == 0, worker.log_text()
