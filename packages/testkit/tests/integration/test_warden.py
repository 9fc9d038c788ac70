"""The warden: whatever a run has left is taken back and removed, and nothing else is touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden, WardenError
from rpa_testkit.warden.mark import VARIABLE
from rpa_testkit.warden.processes import Marked, marked, started
from rpa_testkit.warden.undo import Remove

_GONE_S = 15.0  # the promise
_TESTER = """
import os, signal, subprocess, sys, threading
from pathlib import Path
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.mark import VARIABLE
from rpa_testkit.warden.undo import Remove
folder, run_id = Path(sys.argv[1]), sys.argv[2]
warden = Warden.join(sys.argv[3]) if len(sys.argv) > 3 else Warden.start(folder)
warden.adopt(run_id)
env = {**os.environ, VARIABLE: run_id}
def start(code):
    return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)
"""
_STOPPED = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
_DEAF = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; [signal.pause() for _ in iter(int, 1)]"
_READY = 'print(f"at={warden.address};warden={warden.pid}.", flush=True)\nsignal.pause()\n'


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Warden]:
    """One of the test's own."""
    with Warden.start(tmp_path / "warden") as made:
        yield made


@pytest.fixture
def run_id(tmp_path: Path) -> str:
    """Nobody else's."""
    return f"test-{os.getpid()}-{tmp_path.name}"


class Children:
    """Processes of the test, killed and waited for at its end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def start(self, env: Mapping[str, str], code: str = _DEAF) -> subprocess.Popen[bytes]:
        """Python that runs `code`, with only these variables on top of the test's own."""
        child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **env})
        self._stack.callback(child.wait)
        self._stack.callback(child.kill)
        return child

    def close(self) -> None:
        """All of them."""
        self._stack.close()


@pytest.fixture
def children() -> Iterator[Children]:
    """Starts processes."""
    made = Children()
    yield made
    made.close()


def start_tester(worker_process: WorkerProcesses, folder: Path, run_id: str, code: str, *more: str) -> WorkerProcess:
    """A process that uses a warden as a tester does; ready when this returns."""
    process = worker_process("", argv=[sys.executable, "-c", _TESTER + code + _READY, str(folder), run_id, *more])
    process.wait_for_log("warden=", 30.0)
    return process


def address_of(process: WorkerProcess) -> str:
    """Where the tester's warden listens."""
    return process.log_text().split("at=")[1].split(";")[0]


def warden_of(process: WorkerProcess) -> int:
    """The pid of a tester's warden."""
    return int(process.log_text().split("warden=")[1].split(".")[0])


def see(run_id: str, count: int) -> list[Marked]:
    """Wait until so many processes of the run are there."""
    return until(lambda: [] if len(found := marked([run_id])) < count else found, 20, f"{count} processes of {run_id}")


def all_gone(run_id: str, warden: int, log: Path) -> None:
    """Within the promised time: no process of the run, and no warden."""
    until(lambda: started(warden) is None, _GONE_S, "the warden to end", log.read_text)
    assert marked([run_id]) == []


@pytest.mark.requirement("R3.3", "R9.6")
def test_a_killed_tester_leaves_nothing(worker_process: WorkerProcesses, tmp_path: Path, run_id: str) -> None:
    """Its faults are taken back, its processes are gone: deaf ones, stopped ones, and the warden itself."""
    fault = tmp_path / "fault"
    code = f"children = [start({_DEAF!r}), start({_STOPPED!r}), start({_DEAF!r})]\n"
    code += f"warden.lease([Remove(path={str(fault)!r})], 3600, run_id=run_id)\n"
    process = start_tester(worker_process, tmp_path, run_id, code)
    see(run_id, 3)
    fault.write_text("in place")
    process.kill()
    until(lambda: not fault.exists(), 20.0, "the fault to be taken back")
    all_gone(run_id, warden_of(process), tmp_path / "warden.log")


@pytest.mark.requirement("R3.3", "R9.6")
def test_processes_that_are_just_being_started_are_found(
    worker_process: WorkerProcesses, tmp_path: Path, run_id: str
) -> None:
    """The tester dies while it starts one after another, and its children start more; one comes a second later."""
    starting = "import subprocess, sys\nwhile True: subprocess.Popen(['sleep', '600']).poll(); time.sleep(0.02)"
    code = f"start({'import time; ' + starting!r})\n"
    code += "def more():\n    while True: subprocess.Popen(['sleep', '600'], env=env)\n"
    code += "threading.Thread(target=more, daemon=True).start()\n"
    late = f"while kill -0 $0; do sleep 0.1; done; sleep 1; {VARIABLE}={run_id} exec sleep 600"
    code += (
        f"late = subprocess.Popen(['sh', '-c', {late!r}, str(os.getpid())])\nprint(f'late={{late.pid}}.', flush=True)\n"
    )
    process = start_tester(worker_process, tmp_path, run_id, code)
    late_pid = int(process.log_text().split("late=")[1].split(".")[0])
    see(run_id, 20)
    process.kill()
    all_gone(run_id, warden_of(process), tmp_path / "warden.log")
    until(lambda: started(late_pid) is None, 20.0, "the late one to be gone")


@pytest.mark.requirement("R3.3", "R9.6")
def test_a_child_that_inherited_the_session_does_not_keep_it_alive(
    worker_process: WorkerProcesses, tmp_path: Path, run_id: str
) -> None:
    """A plain fork holds the socket open; the tester's death counts."""
    code = (
        f"start({_DEAF!r})\nchild = os.fork()\nif not child: signal.pause()\nprint(f'child={{child}}.', flush=True)\n"
    )
    process = start_tester(worker_process, tmp_path, run_id, code)
    child = int(process.log_text().split("child=")[1].split(".")[0])
    see(run_id, 1)
    process.kill()
    try:
        all_gone(run_id, warden_of(process), tmp_path / "warden.log")
        assert started(child) is not None, "it carries no mark"
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.requirement("R3.3")
def test_a_lease_that_runs_out_is_undone_while_its_tester_hangs(
    worker_process: WorkerProcesses, tmp_path: Path, run_id: str
) -> None:
    """The tester is stopped past its lease: the fault goes, the run's processes stay; when it goes on, it is told."""
    fault, told = tmp_path / "fault", tmp_path / "told"
    code = f"start({_DEAF!r})\nlease = warden.lease([Remove(path={str(fault)!r})], 2, run_id=run_id)\n"
    code += f"signal.signal(signal.SIGUSR1, lambda *_: Path({str(told)!r}).write_text(str(warden.release(lease))))\n"
    process = start_tester(worker_process, tmp_path, run_id, code)
    process.stop_cont()
    fault.write_text("in place")
    until(lambda: not fault.exists(), 20.0, "the fault to be taken back")
    assert len(see(run_id, 1)) == 1
    os.kill(process.pid, signal.SIGUSR1)
    process.cont()
    until(told.exists, 20.0, "the tester to have asked")
    until(lambda: told.read_text() == "False", 20.0, "the tester to be told that its lease had run out")
    process.kill()
    all_gone(run_id, warden_of(process), tmp_path / "warden.log")


@pytest.mark.requirement("R3.3")
def test_a_released_lease_is_not_undone(warden: Warden, tmp_path: Path, run_id: str) -> None:
    """Whoever has healed by himself keeps what he has made since."""
    kept = tmp_path / "kept"
    warden.adopt(run_id)
    lease = warden.lease([Remove(path=str(kept))], 3600, run_id=run_id)
    assert warden.release(lease)
    assert not warden.release(lease)
    kept.write_text("mine")
    assert warden.finish(run_id) == []
    assert kept.exists()


@pytest.mark.requirement("R3.3", "R9.6")
def test_sessions_do_not_touch_each_others_runs(
    warden: Warden, worker_process: WorkerProcesses, children: Children, tmp_path: Path, run_id: str
) -> None:
    """One tester dies: its run is cleared up; the other's process and fault stay."""
    mine, theirs = f"{run_id}-1", f"{run_id}-10"  # one id begins with the other
    fault = tmp_path / "fault"
    fault.write_text("in place")
    warden.adopt(mine)
    child = children.start({VARIABLE: mine})
    warden.lease([Remove(path=str(fault))], 3600, run_id=mine)
    process = start_tester(worker_process, tmp_path, theirs, f"start({_DEAF!r})\n", warden.address)
    assert warden_of(process) == warden.pid
    see(theirs, 1)
    with Warden.join(warden.address) as other:
        with pytest.raises(WardenError, match="belongs to another session"):
            other.adopt(mine)
        with pytest.raises(WardenError, match="adopt run"):
            other.finish(mine)
    process.kill()
    log = tmp_path / "warden" / "warden.log"
    until(lambda: "removed ['process" in log.read_text(), _GONE_S, "the other's run to be cleared up", log.read_text)
    assert marked([theirs]) == []
    assert child.poll() is None
    assert fault.exists()
    assert [name.split()[0] for name in warden.finish(mine)] == ["fault", "process"]
    assert child.wait(10) == -signal.SIGKILL
    assert not fault.exists()


@pytest.mark.requirement("R3.3")
def test_only_the_mark_itself_counts(warden: Warden, children: Children, run_id: str) -> None:
    """Not another run's mark, not one that begins alike, not its text within another variable."""
    others = [
        children.start({}),
        children.start({VARIABLE: f"{run_id}0"}),
        children.start({"NOTE": f"{VARIABLE}={run_id}"}),
        children.start({f"X{VARIABLE}": run_id}),
    ]
    one = children.start({VARIABLE: run_id})
    warden.adopt(run_id)
    found = warden.finish(run_id)
    assert len(found) == 1
    assert str(one.pid) in found[0]
    assert one.wait(10) == -signal.SIGKILL
    assert [other.poll() for other in others] == [None] * 4
    assert warden.adopt(run_id) is None  # type: ignore[func-returns-value]  # a finished run may come again


@pytest.mark.requirement("R3.3")
def test_the_warden_outlives_what_the_terminal_sends(
    worker_process: WorkerProcesses, tmp_path: Path, run_id: str
) -> None:
    """It has a session of its own and ignores SIGINT and SIGHUP; SIGTERM ends it, and it clears up first."""
    process = start_tester(worker_process, tmp_path, run_id, f"start({_DEAF!r})\n")
    pid = warden_of(process)
    see(run_id, 1)
    assert os.getsid(pid) != os.getsid(process.pid)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert VARIABLE.encode() not in environment
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    with Warden.join(address_of(process)) as other:
        assert other.pid == pid
    os.kill(pid, signal.SIGTERM)
    all_gone(run_id, pid, tmp_path / "warden.log")
    assert process.running


@pytest.mark.requirement("R3.3")
def test_the_warden_ends_with_its_last_session(tmp_path: Path) -> None:
    """Not before: the owner may go first. Then nothing of it is left but its log, and nobody can join."""
    owner = Warden.start(tmp_path)
    other = Warden.join(owner.address)
    owner.close()
    other.adopt("test")
    assert other.finish("test") == []
    other.close()
    until(lambda: started(owner.pid) is None, 20.0, "the warden to end")
    until(lambda: [path.name for path in tmp_path.iterdir()] == ["warden.log"], 20.0, "its socket to be removed")
    with pytest.raises(WardenError, match="no warden answers"):
        Warden.join(owner.address)


@pytest.mark.requirement("R3.3")
def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A Unix socket's path is short; the warden finds another place for it and takes it away again."""
    with Warden.start(tmp_path / ("deep" * 20) / ("folder" * 20)) as warden:
        assert len(warden.address) < 100
        place = Path(warden.address).parent
    until(lambda: not place.exists(), 20.0, "the place to be removed")


@pytest.mark.requirement("R3.3")
def test_a_warden_that_carries_the_mark_does_not_start(tmp_path: Path) -> None:
    """It would kill itself; started by a process that carries one, it is freed of it."""
    command = [sys.executable, "-m", "rpa_testkit.warden", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, VARIABLE: "x"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "would reap itself" in done.stderr
    code = "from rpa_testkit.warden.client import Warden; from pathlib import Path; import sys"
    code += "; w = Warden.start(Path(sys.argv[1])); w.adopt('x'); w.close(); print('ended')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, VARIABLE: "y"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "ended", done.stderr
