"""Programs started the way a script's `&` or nohup starts them, with signals ignored, end when they are asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

_ROOT = Path(__file__).parents[4]
_DEAF = """
import os, signal, sys
for name in sys.argv[1].split(","):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
_TETHERED = "import signal\nprint(signal.getsignal(2).__name__, signal.getsignal(signal.SIGCHLD).name, flush=True)\n"
Start = Callable[..., WorkerProcess]


@pytest.fixture
def deaf(worker_process: WorkerProcesses) -> Start:
    """Starts `python ARGUMENTS` with signals ignored: SIGINT, and SIGCHLD unless others are named."""

    def start(*arguments: str, ignored: str = "SIGINT,SIGCHLD") -> WorkerProcess:
        path = {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
        return worker_process("", path, argv=[sys.executable, "-c", _DEAF, ignored, *arguments])

    return start


def _ends(process: WorkerProcess, number: signal.Signals, code: int) -> None:
    """Sends the signal: the exit code is `code`, there is no traceback and nothing that it started is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    assert process.wait(30.0) == code, process.log_text()
    assert "Traceback" not in process.log_text()
    until(
        lambda: not [one for one in family if _runs(one)], 20.0, "everything it started to be gone", lambda: str(family)
    )


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(part in ("rpa_core.cli.main", "rpa_testkit.worker") for part in process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_developers_server_stops(deaf: Start, number: signal.Signals) -> None:
    """By each of the signals that a person, a script or a closed terminal sends."""
    server = deaf("-m", "rpa_testkit.postgres")
    server.wait_for_log("Ctrl-C", 60.0)
    _ends(server, number, 0)


@pytest.mark.requirement("R3.3")
def test_nohup_keeps_a_server_when_its_terminal_closes(deaf: Start) -> None:
    """A SIGHUP that was ignored at the start stays ignored."""
    server = deaf("-m", "rpa_testkit.postgres", ignored="SIGINT,SIGHUP")
    server.wait_for_log("Ctrl-C", 60.0)
    os.kill(server.pid, signal.SIGHUP)
    assert server.running
    _ends(server, signal.SIGTERM, 0)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_proxy_stops(deaf: Start, number: signal.Signals) -> None:
    """With exit code 0."""
    proxy = deaf("-m", "rpa_testkit.proxy", "--control", "127.0.0.1:0", "--seed", "1")
    proxy.wait_for_log('"port"', 30.0)
    _ends(proxy, number, 0)


@pytest.mark.slow
@pytest.mark.requirement("R3.3", "R9.3")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_scenario_that_is_interrupted_leaves_nothing(deaf: Start, tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 130 and one line, once its workers run."""
    run = deaf("-m", "rpa_testkit.cli.main", "run", "processes", "--seed", "1", "--reports", str(tmp_path))
    until(lambda: list(tmp_path.glob("*/history.jsonl")), 60.0, "the run to begin", run.log_text)
    _ends(run, number, 130)
    assert "everything that was started is gone" in run.log_text()


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("program", ["demo", "benchmarks"])
def test_a_demo_and_a_benchmark_that_are_ended_leave_nothing(deaf: Start, program: str, number: signal.Signals) -> None:
    """A closed terminal or a timeout ends their servers and workers, too."""
    arguments = {"demo": ("--records", "5000", "--kills", "0"), "benchmarks": ("--only", "latency", "--quick")}
    process = deaf("-m", program, *arguments[program])

    def working() -> bool:
        return any(_is_worker(one) for one in psutil.Process(process.pid).children(recursive=True))

    until(working, 60.0, "it to start a worker", process.log_text)
    _ends(process, number, 130)


_NOTED = """
import os, signal
from rpa_testkit.interrupts import take_signals, uninterrupted
take_signals()
noted = False
try:
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        noted = True
except KeyboardInterrupt:
    print("interrupted", noted)
"""


@pytest.mark.requirement("R3.3")
def test_what_is_started_is_noted_before_the_interrupt(worker_process: WorkerProcesses) -> None:
    """A signal between a start and its note would leave a process behind."""
    process = worker_process("", argv=[sys.executable, "-c", _NOTED])
    assert process.wait(30.0) == 0, process.log_text()
    assert process.log_text() == "interrupted True\n"


@pytest.mark.requirement("R3.3")
def test_a_proxy_whose_owner_is_gone_already_ends_without_a_word() -> None:
    """Nobody reads its first line."""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "rpa_testkit.proxy", "--control", "127.0.0.1:0", "--seed", "1"]
    with subprocess.Popen(command, stdout=writes, stderr=subprocess.PIPE) as proxy:
        os.close(writes)
        assert proxy.communicate(timeout=30)[1] == b""


@pytest.mark.requirement("R3.3")
def test_a_tethered_module_does_not_inherit_ignored_signals(tmp_path: Path) -> None:
    """It runs with the dispositions that a program has by default."""
    (tmp_path / "prints.py").write_text(_TETHERED)
    tethered = ["-m", "rpa_testkit.tethered", "", "prints"]
    with subprocess.Popen(
        [sys.executable, "-c", _DEAF, "SIGINT,SIGCHLD", *tethered],
        stdin=subprocess.PIPE,  # its end would end the module
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["default_int_handler", "SIG_DFL"]
