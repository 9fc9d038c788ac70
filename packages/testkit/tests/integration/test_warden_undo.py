"""The warden: each way of taking a fault back, and PostgreSQL servers that a run has left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rpa_testkit.databases import Database
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.proxy.client import Proxy, Rule
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.execution import carry_out
from rpa_testkit.warden.mark import VARIABLE
from rpa_testkit.warden.processes import send, started
from rpa_testkit.warden.undo import ClearEdge, Command, Continue, Limit, Remove, Sql, Write

from .upstream import EDGE

_LOOP = "import signal; print('up', flush=True); [signal.pause() for _ in iter(int, 1)]"
_OWNER = """
import signal
from rpa_testkit.postgres import EmbeddedPostgres
server = EmbeddedPostgres().start()
print(f"home={server.home} pid={server.pid}.", flush=True)
signal.pause()
"""


@pytest.fixture
def loop(worker_process: WorkerProcesses) -> WorkerProcess:
    """A process that runs until it is ended."""
    process = worker_process("", argv=[sys.executable, "-c", _LOOP])
    process.wait_for_log("up", 20.0)
    return process


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Warden]:
    """With the run `run_id` adopted."""
    with Warden.start(tmp_path / "warden") as made:
        yield made


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _since(pid: int) -> int:
    since = started(pid)
    assert since is not None
    return since


@pytest.mark.requirement("R3.3")
def test_a_stopped_process_goes_on(loop: WorkerProcess) -> None:
    """The one that is meant, and no other that has its pid."""
    loop.stop_cont()
    carry_out(Continue(pid=loop.pid, started=_since(loop.pid) + 1))
    assert _state(loop.pid) == "T"
    carry_out(Continue(pid=loop.pid, started=_since(loop.pid)))
    until(lambda: _state(loop.pid) == "S", 20.0, "the process to go on")


@pytest.mark.requirement("R3.3")
def test_no_signal_reaches_another_process_than_the_one_meant(loop: WorkerProcess) -> None:
    """An ended one, one with another start, one that is only waited for no more."""
    since = _since(loop.pid)
    assert not send(loop.pid, since - 1, signal.SIGKILL)
    assert loop.running
    assert send(loop.pid, since, signal.SIGKILL)
    until(lambda: started(loop.pid) is None, 20.0, "the process to end, though nobody has waited for it")
    assert not send(loop.pid, since, signal.SIGKILL)
    carry_out(Continue(pid=loop.pid, started=since))


@pytest.mark.requirement("R3.3")
def test_a_limit_is_set_back(loop: WorkerProcess) -> None:
    """Of the process that is meant."""
    soft, hard = resource.prlimit(loop.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(loop.pid, resource.RLIMIT_NOFILE, (10, hard))
    undo = Limit(pid=loop.pid, started=_since(loop.pid), resource="RLIMIT_NOFILE", soft=soft, hard=hard)
    carry_out(undo)
    assert resource.prlimit(loop.pid, resource.RLIMIT_NOFILE) == (soft, hard)


@pytest.mark.requirement("R3.3")
def test_files_and_commands(tmp_path: Path) -> None:
    """Written, removed, run; a command that fails is an error."""
    file, made = tmp_path / "file", tmp_path / "made"
    carry_out(Write(path=str(file), text="text"))
    assert file.read_text() == "text"
    carry_out(Remove(path=str(file)))
    carry_out(Remove(path=str(file)))
    assert not file.exists()
    carry_out(Command(argv=("touch", str(made))))
    assert made.exists()
    with pytest.raises(subprocess.CalledProcessError):
        carry_out(Command(argv=("false",)))
    with pytest.raises(subprocess.TimeoutExpired):
        carry_out(Command(argv=("sleep", "60"), timeout_s=0.1))


@pytest.mark.requirement("R3.3")
def test_statements_are_each_carried_out(database: Database) -> None:
    """One that fails does not keep the next from it, and is told."""
    statements = ("CREATE TABLE one ()", "no statement at all", "CREATE TABLE two ()")
    with pytest.raises(psycopg.errors.SyntaxError):
        carry_out(Sql(dsn=database.dsn, statements=statements))
    with psycopg.connect(database.dsn) as connection:
        found = connection.execute("SELECT to_regclass('one') IS NOT NULL, to_regclass('two') IS NOT NULL").fetchone()
    assert found == (True, True)


@pytest.mark.requirement("R3.3")
def test_an_edge_is_cleared(proxy: Proxy) -> None:
    """Over the control channel; a proxy that is gone has no rule either."""
    proxy.set_rule(EDGE, Rule(refuse=True))
    undo = ClearEdge(host=proxy.host, port=proxy.port, edge=EDGE)
    carry_out(undo)
    assert proxy.probe(EDGE, 0.3).outcome == "silent", "the upstream of this test never speaks"
    proxy.close()
    carry_out(undo)


@pytest.mark.requirement("R3.3")
def test_an_undo_that_fails_or_hangs_does_not_keep_the_others(warden: Warden, tmp_path: Path) -> None:
    """Neither within its own lease nor in another; what failed stands in the log."""
    run_id = f"undo-{os.getpid()}"
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_text("in place")
    warden.adopt(run_id)
    warden.lease([Command(argv=("sleep", "600"), timeout_s=600)], 3600, run_id=run_id)
    warden.lease([Command(argv=("false",)), Remove(path=str(first))], 3600, run_id=run_id)
    warden.lease([Remove(path=str(second))], 3600, run_id=run_id)
    assert len(warden.finish(run_id)) == 3
    assert not first.exists()
    assert not second.exists()
    assert "CalledProcessError" in (tmp_path / "warden" / "warden.log").read_text()


@pytest.mark.requirement("R3.3", "R9.6")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_postgresql_that_a_run_left_is_taken_down(
    warden: Warden, worker_process: WorkerProcesses, *, frozen: bool
) -> None:
    """By its guardian, which is let do so; if that cannot, because the server is frozen, without it."""
    run_id = f"server-{os.getpid()}-{frozen}"
    owner = worker_process("", {VARIABLE: run_id}, argv=[sys.executable, "-c", _OWNER])
    owner.wait_for_log("pid=", 60.0)
    home = Path(owner.log_text().split("home=")[1].split(" pid=")[0])
    postmaster = int(owner.log_text().split("pid=")[1].split(".")[0])
    if frozen:
        os.kill(postmaster, signal.SIGSTOP)
    warden.adopt(run_id)
    found = warden.finish(run_id)
    assert any("guardian.py" in each for each in found)
    assert owner.wait(10) == -signal.SIGKILL
    until(lambda: started(postmaster) is None, 20.0, "the server to end")
    until(lambda: not home.exists(), 20.0, "its data to be removed")
