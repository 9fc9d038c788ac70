"""PgBouncer in transaction mode between workers and server: everything works, LISTEN alone is lost."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.databases import Database
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from .engine import Engine

_CONFIG = """\
[databases]
* = host=127.0.0.1 port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 100
server_reset_query_always = 0
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def pgbouncer_port(
    postgres_server: EmbeddedPostgres, worker_process: WorkerProcesses, open_folder: Path
) -> Iterator[int]:
    """A PgBouncer over the shared server, with four server connections for everybody."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    port = _free_port()
    folder = open_folder / "pgbouncer"
    folder.mkdir()
    config = folder / "pgbouncer.ini"
    config.write_text(_CONFIG.format(server_port=postgres_server.port, port=port, folder=folder))
    argv = [program, str(config)]
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        for path in (folder, config):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        argv = [shutil.which("setpriv") or "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *argv]
    process = worker_process("", argv=argv)
    until(lambda: _answers(port) or not process.running, 20, "PgBouncer to listen", process.log_text)
    assert process.running, process.log_text()
    yield port
    process.terminate()
    process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def bounced(database: Database, pgbouncer_port: int, worker_process: WorkerProcesses, tmp_path: Path) -> Engine:
    """Workers whose only way to the database is PgBouncer."""
    return Engine(f"postgresql://postgres@127.0.0.1:{pgbouncer_port}/{database.name}", worker_process, tmp_path)


@pytest.mark.requirement("R6.3", "R6.4")
def test_a_whole_load_runs_through_pgbouncer(bounced: Engine, database: Database) -> None:
    """Two workers, retries, effects, a drain: all is done once; no statement stays prepared on a server connection."""
    bounced.make_effect_table()
    bounced.enqueue(
        ({"n": number, "do": "once" if number % 50 == 0 else "done"} for number in range(3000)), chunk_size=100
    )
    workers = [bounced.start("EFFECTS") for _ in range(2)]
    assert bounced.settle() == {"done": 3000}
    assert set(bounced.effects().values()) == {1}
    assert len(bounced.effects()) == 3000
    bounced.enqueue([{"n": 1}], key="new")  # no notification gets through: the poll finds it
    until(lambda: bounced.unfinished() == 0, 20, "a late record", bounced.describe)
    for _ in range(4):
        assert bounced.ask("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    with psycopg.connect(database.dsn) as direct:
        used = direct.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", [database.name]
        ).fetchone()
    assert used is not None
    assert 1 <= used[0] <= 4  # all that two workers, their watchers and lease keepers took
    for worker in workers:
        worker.process.terminate()
    assert [worker.process.wait(20) for worker in workers] == [0, 0]


@pytest.mark.requirement("R6.3")
def test_enqueueing_is_part_of_the_callers_transaction_through_pgbouncer(bounced: Engine) -> None:
    """Records exist when the caller commits, and do not if the caller rolls back; by COPY and by function."""
    records = [NewRecord(b'{"n": %d}' % number) for number in range(100)]
    with connect(bounced.dsn) as connection:
        for some in (records, records[:5]):
            with connection.transaction(force_rollback=True):
                enqueue(connection, "act", some)
            assert bounced.ask("SELECT count(*) FROM rpa.record") == [(0,)]
        with connection.transaction():
            enqueue(connection, "act", records)
            assert bounced.ask("SELECT count(*) FROM rpa.record") == [(0,)]
    assert bounced.places() == {"unfinished": 100}
    bounced.start()
    assert bounced.settle() == {"done": 100}
