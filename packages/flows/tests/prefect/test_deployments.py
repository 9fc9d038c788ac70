"""Flows started from Prefect: a real server, a real worker of a work pool, a real PostgreSQL."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from rpa_core.store.connect import connect
from rpa_testkit.waits import until

Fill = Callable[[str, str, list[dict[str, Any]]], None]
_DSN = "CONTAINER_DATABASE_RPA_DB_URL"
_QUICK = {"CONTAINER_LEASE_TTL": "2", "CONTAINER_POLL_MAX": "0.2"}


class _Database(Protocol):
    @property
    def dsn(self) -> str: ...


def _ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with connect(dsn) as connection:
        return connection.execute(query).fetchall()


def _done(dsn: str, flow: str) -> list[int]:
    query = (
        "SELECT s.record_id FROM rpa.result s JOIN rpa.record r ON r.period = s.period AND r.id = s.record_id"
        f" JOIN rpa.flow f ON f.id = r.flow WHERE f.name = '{flow}'"
    )
    return [row[0] for row in _ask(dsn, query)]


def _unfinished(dsn: str, flow: str) -> int:
    query = f"SELECT coalesce(sum(n), 0) FROM rpa.chunk WHERE flow = (SELECT id FROM rpa.flow WHERE name = '{flow}')"
    return int(_ask(dsn, query)[0][0])


@pytest.mark.slow
@pytest.mark.requirement("R2.3")
def test_a_run_from_the_ui_scores_every_record_once(
    prefect: Any, database: _Database, responses: list[dict[str, Any]], fill: Fill
) -> None:
    """200 records, a run as the button makes it: COMPLETED, 200 results, the worker's lines and the counts in it."""
    fill(database.dsn, "rpa2", responses)
    prefect.register()
    worker = prefect.start_worker(**{_DSN: database.dsn, **_QUICK})
    run = prefect.start_run("rpa2")
    state = prefect.wait_for(run, "COMPLETED")
    done = _done(database.dsn, "rpa2")
    assert len(done) == len(set(done)) == 200
    assert _ask(database.dsn, "SELECT count(*) FROM rpa.dead_letter") == [(0,)]
    assert "200 done" in state["message"]
    texts = until(
        lambda: [text for _, text in prefect.logs(run) if "rpa2 drained" in text] and prefect.logs(run),
        30,
        "the worker's lines to be in Prefect",
        lambda: prefect.describe(run),
    )
    assert any(level == logging.INFO and "started as" in text for level, text in texts)
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    (artifact,) = prefect.ask("/artifacts/filter", wanted)
    assert artifact["key"] == "rpa2-outcomes"
    assert {"outcome": "done", "records": 200} in json.loads(artifact["data"])
    assert database.dsn not in f"{texts}{worker.log_text()}"


@pytest.mark.slow
@pytest.mark.requirement("R5.5")
def test_a_cancelled_run_drains_and_loses_nothing(
    prefect: Any, database: _Database, responses: list[dict[str, Any]], fill: Fill, slow_receiver: Any
) -> None:
    """Cancelled in the middle: CANCELLED, no lease is left to run out; the next run does what was left, once."""
    fill(database.dsn, "rpa3", responses)
    prefect.register()
    prefect.start_worker(
        **{_DSN: database.dsn, **_QUICK, "CONTAINER_LEASE_TTL": "60"},
        CONTAINER_DELIVERY_URL=slow_receiver.url,
        CONTAINER_DELIVERY_CONCURRENCY="2",
        CONTAINER_CLAIM_RECORDS="50",
    )
    run = prefect.start_run("rpa3")
    until(lambda: len(slow_receiver.seen) >= 10, 60, "some deliveries", lambda: prefect.describe(run))
    prefect.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    prefect.wait_for(run, "CANCELLED", timeout_s=60)
    before = len(_done(database.dsn, "rpa3"))
    assert 0 < before < 200
    assert before + _unfinished(database.dsn, "rpa3") == 200
    assert _ask(database.dsn, "SELECT count(*) FROM rpa.chunk WHERE state = 'l'") == [(0,)]
    slow_receiver.quick.set()
    prefect.wait_for(prefect.start_run("rpa3"), "COMPLETED")
    done = _done(database.dsn, "rpa3")
    assert len(done) == len(set(done)) == 200
    assert len(slow_receiver.seen) == 200


@pytest.mark.slow
@pytest.mark.requirement("R5.5")
def test_a_killed_engine_leaves_no_worker_behind(
    prefect: Any, database: _Database, responses: list[dict[str, Any]], fill: Fill, slow_receiver: Any, tmp_path: Path
) -> None:
    """SIGKILL of the process of the run: its worker drains all the same, long before its lease would run out."""
    fill(database.dsn, "rpa3", responses)
    prefect.register()
    worker = prefect.start_worker(
        **{_DSN: database.dsn, **_QUICK, "CONTAINER_LEASE_TTL": "600"},
        CONTAINER_DELIVERY_URL=slow_receiver.url,
        CONTAINER_DELIVERY_CONCURRENCY="2",
        CONTAINER_CLAIM_RECORDS="50",
        CONTAINER_LOG_DIR=str(tmp_path),  # what the worker says after its reader is gone
    )
    run = prefect.start_run("rpa3")
    until(lambda: len(slow_receiver.seen) >= 10, 60, "some deliveries", lambda: prefect.describe(run))
    family = psutil.Process(worker.pid).children(recursive=True)
    (rpa,) = [process for process in family if "rpa_core.cli.main" in process.cmdline()]
    engine = rpa.parent()
    assert engine is not None
    engine.kill()
    until(lambda: not rpa.is_running() or rpa.status() == "zombie", 30, "the worker to drain")
    before = len(_done(database.dsn, "rpa3"))
    said = "\n".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert 0 < before < 200, said
    assert before + _unfinished(database.dsn, "rpa3") == 200
    assert _ask(database.dsn, "SELECT count(*) FROM rpa.chunk WHERE state = 'l'") == [(0,)]
    prefect.wait_for(run, "CRASHED")


@pytest.mark.slow
@pytest.mark.requirement("R2.3")
def test_a_run_may_have_a_time_instead_of_an_end(prefect: Any, database: _Database) -> None:
    """With until_empty=False it waits for records; after max_seconds it drains and is COMPLETED."""
    prefect.register()
    prefect.start_worker(**{_DSN: database.dsn, **_QUICK})
    run = prefect.start_run("rpa2", until_empty=False, max_seconds=4)
    prefect.wait_for(run, "COMPLETED")
    texts = [text for _, text in prefect.logs(run)]
    assert any("SIGTERM: draining" in text for text in texts), texts


@pytest.mark.slow
@pytest.mark.requirement("R2.4")
def test_a_missing_database_fails_the_run_with_the_cause(prefect: Any, database: _Database) -> None:
    """PostgreSQL refuses for good: FAILED at once, without the retries, and the state says why."""
    prefect.register()
    prefect.start_worker(**{_DSN: f"{database.dsn.rpartition('/')[0]}/nowhere", **_QUICK})
    run = prefect.start_run("rpa2")
    state = prefect.wait_for(run, "FAILED")
    assert "rpa2 ended with 77" in state["message"]
    assert "nowhere" in state["message"]
    assert prefect.ask(f"/flow_runs/{run}")["run_count"] == 1


@pytest.mark.slow
@pytest.mark.requirement("R2.5")
def test_what_passes_is_tried_again(prefect: Any, database: _Database, tmp_path: Any) -> None:
    """A worker that ends with 69 once: Prefect retries the same run, which then completes."""
    flag = tmp_path / "tried"
    program = tmp_path / "rpa"
    program.write_text(
        f"#!/bin/sh\nif [ -e {flag} ]; then exit 0; fi\ntouch {flag}\necho 'rpa: the database is away' >&2\nexit 69\n"
    )
    program.chmod(0o755)
    prefect.register()
    prefect.start_worker(RPA_COMMAND=str(program))
    run = prefect.start_run("rpa2")
    prefect.wait_for(run, "COMPLETED")
    assert prefect.ask(f"/flow_runs/{run}")["run_count"] == 2
    cause = "rpa2 ended with 69 (a dependency is away): rpa: the database is away"
    assert any(cause in text for _, text in prefect.logs(run))
