"""Driving worker processes: signals, logs, checkpoints."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import WaitTimeoutError

_LOOP = "import signal; print('up'); [signal.pause() for _ in iter(int, 1)]"
_REACHING = """
import os
from rpa_core.checkpoints import Point
from rpa_testkit.armed import VARIABLE, ArmedCheckpoints, parse
checkpoints = ArmedCheckpoints(parse(os.environ[VARIABLE]))
for time in (1, 2, 3):
    print("before", time)
    checkpoints.reach(Point.RESULTS_WRITTEN)
print("end")
"""


def _python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


@pytest.mark.requirement("R3.3", "R9.3")
def test_a_checkpoint_kills_the_process_the_nth_time(worker_process: WorkerProcesses) -> None:
    """SIGKILL comes at the second time, not before and not after."""
    worker = worker_process("", argv=_python(_REACHING), checkpoint="results-written:2:kill")
    assert worker.wait(20.0) == -signal.SIGKILL
    worker.wait_reached(0.0)
    assert "before 2" in worker.log_text()
    assert "before 3" not in worker.log_text()


@pytest.mark.requirement("R3.3", "R9.3")
def test_a_checkpoint_stops_the_process_until_it_is_continued(worker_process: WorkerProcesses) -> None:
    """The stopped process does nothing; after SIGCONT it goes on where it was."""
    worker = worker_process("", argv=_python(_REACHING), checkpoint="results-written:1:stop")
    worker.wait_reached(20.0)
    worker.wait_stopped(20.0)
    assert "before 2" not in worker.log_text()
    worker.cont()
    assert worker.wait(20.0) == 0
    assert "end" in worker.log_text()


@pytest.mark.requirement("R3.3", "R9.3")
def test_signals_reach_the_process_and_its_log_can_be_read(worker_process: WorkerProcesses) -> None:
    """Stop, continue, terminate: each has happened when the call or the wait returns."""
    worker = worker_process("", argv=_python(_LOOP))
    worker.wait_for_log("up", 20.0)
    worker.stop_cont()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        worker.wait(0.0)
    assert any("up" in note for note in caught.value.__notes__)
    worker.cont()
    worker.terminate()
    assert worker.wait(20.0) == -signal.SIGTERM


@pytest.mark.requirement("R3.3", "R9.3")
def test_waiting_for_a_log_line_fails_at_once_when_the_process_has_ended(worker_process: WorkerProcesses) -> None:
    """Nobody waits out a timeout for a line that cannot come any more; the log is in the error."""
    worker = worker_process("", argv=_python("print('only this')"))
    with pytest.raises(AssertionError, match="only this") as caught:
        worker.wait_for_log("something else", 3600.0)
    assert not isinstance(caught.value, WaitTimeoutError)


@pytest.mark.requirement("R3.3")
def test_the_environment_of_the_developer_does_not_configure_the_worker(
    worker_process: WorkerProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTAINER_* of the shell that runs the tests stays outside."""
    monkeypatch.setenv("CONTAINER_FLOW_NAME", "mine")
    code = "import os; print([name for name in os.environ if name.startswith('CONTAINER_')])"
    worker = worker_process("", {"CONTAINER_CHUNK_SIZE": "1"}, argv=_python(code))
    assert worker.wait(20.0) == 0
    assert worker.log_text().strip() == "['CONTAINER_CHUNK_SIZE']"


@pytest.mark.requirement("R3.3")
def test_whatever_still_runs_is_reaped(worker_process: WorkerProcesses) -> None:
    """Even a stopped process ends with the test."""
    worker = worker_process("", argv=_python(_LOOP))
    worker.wait_for_log("up", 20.0)
    worker.stop_cont()
    worker_process.reap_all()
    assert worker.returncode == -signal.SIGKILL
