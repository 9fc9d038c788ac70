"""PostgreSQL goes away and comes back: nobody has to restart a worker, nothing is lost, nothing done twice."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

from .engine import Engine, Running


@contextmanager
def _probed(worker: Running) -> Iterator[list[int]]:
    """Liveness, asked all the time from another thread; yields the answers."""
    answers: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            answers.append(worker.get("/health/live").status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def _flush(engine: Engine) -> None:
    """Claims commit asynchronously, so a crash may forget the last ones, which costs work; here they shall last."""
    engine.ask("CREATE TABLE public.flushed ()")


def _ready(worker: Running) -> bool:
    return worker.get("/health/ready").status == 200


@pytest.mark.slow
@pytest.mark.requirement("R2.5", "R8.1", "R8.2", "R2.2", "R3.3")
def test_two_crashes_of_the_server_under_load(private_engine: Engine, private_postgres: EmbeddedPostgres) -> None:
    """Stopped with `immediate` twice, once for seconds: live all along, ready again by itself, every effect once."""
    engine = private_engine
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 2} for number in range(2000)), chunk_size=250)
    workers = [engine.start("EFFECTS", lease_ttl=1, claim_records=250) for _ in range(2)]
    with _probed(workers[0]) as answers:
        for round_ in (1, 2):
            until(lambda: engine.done() >= 400 * round_, 20, "some to be done", engine.describe)  # noqa: B023 - called here
            private_postgres.stop("immediate")
            for worker in workers:
                worker.process.wait_for_log("database away", 20)
                until(lambda: not _ready(worker), 20, "readiness to fail", worker.process.log_text)  # noqa: B023
            if round_ == 2:  # longer than any lease
                workers[0].process.wait_for_log('"attempt":4', 20)
            private_postgres.start()
            for worker in workers:
                until(lambda: _ready(worker), 20, "readiness to recover", worker.process.log_text)  # noqa: B023
        assert engine.settle(40) == {"done": 2000}
    assert set(answers) == {200}
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == 2000
    assert all(worker.process.running for worker in workers)


@pytest.mark.requirement("R2.5", "R8.1")
def test_finished_work_outlives_an_outage(private_engine: Engine, private_postgres: EmbeddedPostgres) -> None:
    """The server goes while a chunk is in the handler: its outcomes are kept and committed; no handler runs again."""
    engine = private_engine
    engine.enqueue([{"n": number, "ms": 5} for number in range(100)])
    worker = engine.start(lease_ttl=5)
    until(lambda: sum(engine.seen().values()) >= 20, 20, "the handler to run", worker.process.log_text)
    _flush(engine)
    private_postgres.stop("immediate")
    worker.process.wait_for_log("database away", 20)
    private_postgres.start()
    assert engine.settle() == {"done": 100}
    assert set(engine.seen().values()) == {1}


@pytest.mark.requirement("R2.5")
def test_a_claim_outlives_its_connection(engine: Engine) -> None:
    """The connection breaks between claim and reading: after the reconnect the same lease goes on, counted once."""
    engine.enqueue([{"n": number} for number in range(50)])
    worker = engine.start(checkpoint="claimed:1:stop", lease_ttl=5)
    worker.process.wait_reached(20)
    worker.process.wait_stopped(10)
    ((lease,),) = engine.ask("SELECT lease_id FROM rpa.chunk")
    engine.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'rpa act %%' AND pid <> pg_backend_pid()"
    )
    worker.process.cont()
    assert engine.settle() == {"done": 50}
    assert engine.ask("SELECT lease_id, attempts, n_ok FROM rpa.chunk_done") == [(lease, 1, 50)]


@pytest.mark.requirement("R5.5", "R2.5")
def test_a_drain_outlives_an_outage(private_engine: Engine, private_postgres: EmbeddedPostgres) -> None:
    """SIGTERM while the server is away and outcomes wait to be committed: kept, tried at a calm pace, saved."""
    engine = private_engine
    engine.enqueue([{"n": number, "ms": 5} for number in range(100)])
    worker = engine.start(lease_ttl=5, shutdown_timeout=20)
    until(lambda: sum(engine.seen().values()) >= 10, 20, "the handler to run", worker.process.log_text)
    _flush(engine)
    private_postgres.stop("immediate")
    worker.process.terminate()
    worker.process.wait_for_log('"attempt":4', 20)
    assert worker.process.log_text().count("database away") < 20
    private_postgres.start()
    assert worker.process.wait(20) == 0
    places = engine.places()
    assert places["done"] == sum(engine.seen().values()) >= 10
    assert places["unfinished"] == 100 - places["done"]


@pytest.mark.requirement("R2.1", "R2.2", "R2.5", "R5.1")
def test_a_worker_waits_for_a_server_that_is_not_there_yet(
    private_engine: Engine, private_postgres: EmbeddedPostgres
) -> None:
    """Started before its database: alive but not ready, told in the log; it begins when the server is there."""
    engine = private_engine
    engine.enqueue([{"n": 1}])
    private_postgres.stop()
    worker = engine.run_command()
    worker.process.wait_for_log("attempt 4", 20)
    assert worker.get("/health/live").status == 200
    assert worker.get("/health/ready").status == 503
    assert worker.get("/health/startup").status == 503
    private_postgres.start()
    assert engine.settle() == {"done": 1}
    until(lambda: _ready(worker), 20, "readiness", worker.process.log_text)


@pytest.mark.requirement("R5.5", "R2.1")
def test_sigterm_while_waiting_for_the_database_ends_at_once(engine: Engine) -> None:
    """Nothing was begun, so there is nothing to drain: exit code 0."""
    worker = engine.run_command(database_rpa_db_url="postgresql://nobody@127.0.0.1:1/rpa")
    worker.process.wait_for_log("attempt 2", 20)
    worker.process.terminate()
    assert worker.process.wait(20) == 0


@pytest.mark.requirement("R1.3", "R2.2")
def test_a_wrong_password_ends_a_worker_at_once(engine: Engine, postgres_server: EmbeddedPostgres) -> None:
    """Waiting cannot help: exit code 77, the password named, and not shown."""
    postgres_server.create_role("locked", "right-one")
    dsn = engine.dsn.replace("//postgres@", "//locked:wrong-one@")
    try:
        worker = engine.run_command(database_rpa_db_url=dsn)
        assert worker.process.wait(20) == 77
    finally:
        engine.ask("DROP ROLE locked")
    log = worker.process.log_text()
    assert "password authentication failed" in log
    assert "correct the password" in log
    assert "wrong-one" not in log


@pytest.mark.requirement("R1.3", "R1.1")
def test_a_missing_schema_says_what_to_run(engine: Engine, survey_hub: object) -> None:
    """Exit code 78 and `rpa db migrate`; with --migrate the worker brings it itself."""
    dsn = survey_hub.dsn  # type: ignore[attr-defined]  # the fixture's Database
    worker = engine.run_command(database_rpa_db_url=dsn)
    assert worker.process.wait(20) == 78
    assert "rpa db migrate" in worker.process.log_text()
    migrating = engine.run_command("ACT", "--migrate", database_rpa_db_url=dsn)
    migrating.wait_started()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT min(number) FROM rpa.migration").fetchone() == (1,)
    migrating.process.terminate()
    assert migrating.process.wait(20) == 0


@pytest.mark.requirement("R2.5", "R8.1", "R3.3")
def test_a_worker_without_a_descriptor_left_waits_for_one(engine: Engine) -> None:
    """Its connection is lost and it cannot open another: it tries again until it can, and does its work."""
    engine.enqueue(({"n": number, "ms": 5} for number in range(400)), chunk_size=50)
    worker = engine.start(lease_ttl=1, claim_records=50)
    worker.wait_started()
    pid = worker.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    until(lambda: engine.done() > 0, 20, "some to be done", engine.describe)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, limits[1]))
    engine.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ^@ 'rpa act'")
    worker.process.wait_for_log("database away", 20)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert engine.settle() == {"done": 400}
    assert (worker.process.running, worker.process.pid) == (True, pid)
