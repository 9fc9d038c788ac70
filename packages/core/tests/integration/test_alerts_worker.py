"""Real workers that end by an error, hang or are killed: who is told, before they end or when they are back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from rpa_testkit.waits import until

from .engine import Engine, Running
from .receivers import Hanging, Receiver


@pytest.fixture
def live() -> Iterator[Receiver]:
    """An Alertmanager that answers."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def told(receiver: Receiver, name: str) -> list[dict[str, Any]]:
    """What was told about alerts of a name."""
    return [alert for alert in receiver.alerts() if alert["labels"]["alertname"] == name]


def begin(engine: Engine, tmp_path: Path, *urls: str, **more: Any) -> Running:
    """A worker with a spool folder that outlives it."""
    more = {"worker_id": "w1", "spool_dir": tmp_path / "spool", "alertmanager_urls": ",".join(urls), **more}
    return engine.run_command(**more)


def _logged_at(worker: Running, action: str) -> datetime:
    lines = [json.loads(line) for line in worker.process.log_text().splitlines() if action in line]
    return datetime.fromisoformat(next(line["@timestamp"] for line in lines if line["event.action"] == action))


@pytest.mark.requirement("R8.5", "R8.2")
def test_a_worker_that_ends_by_an_error_tells_and_the_next_one_takes_it_back(
    engine: Engine, live: Receiver, tmp_path: Path
) -> None:
    """A database that is not there: exit 77, and the alert is out by then; a good start resolves it, labels equal."""
    wrong = make_conninfo(engine.dsn, dbname="no_such_database")
    assert begin(engine, tmp_path, live.url, database_rpa_db_url=wrong).process.wait(30) == 77
    (fired,) = told(live, "WorkerEnding")
    assert fired["labels"]["instance"] == "w1"
    assert "exit code 77" in fired["annotations"]["summary"]
    begin(engine, tmp_path, live.url).wait_started()
    until(lambda: len(told(live, "WorkerEnding")) == 2, 20, "the alert to be resolved")
    resolved = told(live, "WorkerEnding")[1]
    assert resolved["labels"] == fired["labels"]
    assert resolved["startsAt"] == fired["startsAt"] < resolved["endsAt"] < fired["endsAt"]


@pytest.mark.requirement("R8.5")
def test_a_hung_worker_tells_before_it_ends_though_another_sink_hangs(
    engine: Engine, live: Receiver, tmp_path: Path
) -> None:
    """The fatal self-check: the alert is out, the exit code is 70, and the sink that hangs costs its timeout alone."""
    engine.enqueue([{"n": 0, "do": "hang"}])
    hanging = Hanging()
    worker = begin(engine, tmp_path, hanging.url, live.url, health_heartbeat_max_age=1)
    until(lambda: told(live, "WorkerEnding"), 40, "the alert", worker.process.log_text)
    assert worker.process.wait(30) == 70
    hanging.close()
    (fired,) = told(live, "WorkerEnding")
    assert fired["labels"]["reason"] == "hung"


@pytest.mark.requirement("R8.2", "R8.5")
@pytest.mark.slow
def test_a_worker_that_is_killed_again_and_again_waits_before_it_touches_anything(
    engine: Engine, live: Receiver, tmp_path: Path
) -> None:
    """SIGKILL three times: the fourth life waits, alive, tells of it, and works. A clean end breaks the loop."""
    settings = {"crash_backoff_max": 60, "crash_window": 600}
    for _ in range(3):
        worker = begin(engine, tmp_path, live.url, **settings)
        worker.process.wait_for_log("worker.started", 40)
        assert not told(live, "CrashLoop")
        worker.process.kill()
    worker = begin(engine, tmp_path, live.url, **settings)
    worker.process.wait_for_log("worker.backing_off", 30)
    assert worker.get("/health/live").status == 200
    assert worker.get("/health/ready").status == 503
    (fired,) = told(live, "CrashLoop")
    assert "went down 3 times" in fired["annotations"]["summary"]
    worker.process.wait_for_log("worker.started", 30)
    waited = _logged_at(worker, "worker.started") - _logged_at(worker, "worker.backing_off")
    assert waited.total_seconds() > 1, "three crashes ask for two to four seconds"
    worker.process.terminate()
    assert worker.process.wait(30) == 0
    after = begin(engine, tmp_path, live.url, **settings)
    after.process.wait_for_log("worker.started", 30)
    assert "worker.backing_off" not in after.process.log_text()
