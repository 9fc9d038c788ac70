"""Whole workers that report to a real server: drained, cancelled from Prefect, killed and followed by the next."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.databases import Database
from rpa_testkit.prefect_server import PrefectServer
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from ..integration.engine import Engine, Running  # noqa: TID252 - tests are no package that has a name
from .reported import Known

pytestmark = pytest.mark.slow
_RECORDS = 50


class Reported:
    """Workers with a spool of their own, and their runs in Prefect; other tests report the same flow."""

    def __init__(self, engine: Engine, known: Known, api_url: str, spool: Path) -> None:
        self._engine = engine
        self._known = known
        self._settings: dict[str, Any] = {
            "prefect_api_url": api_url,
            "spool_dir": spool,
            "worker_id": f"w{uuid.uuid4().hex[:8]}",
        }
        self._worked = 0

    def start(self) -> Running:
        """A worker that has done its records."""
        running = self._engine.start(**self._settings)
        self._engine.enqueue(({} for _ in range(_RECORDS)), key=f"k{self._worked}-")
        self._worked += _RECORDS
        until(lambda: self._engine.done() == self._worked, 60, "the records to be done", running.process.log_text)
        return running

    def runs(self) -> list[dict[str, Any]]:
        """The runs of these workers, oldest first."""
        label = str(self._settings["worker_id"])
        return [run for run in self._known.runs("act") if run["labels"]["incarnation"].startswith(f"{label}:")]

    def wait_for(self, *states: str) -> list[dict[str, Any]]:
        """The runs, once they are in these states."""
        until(lambda: [run["state"]["type"] for run in self.runs()] == list(states), 60, f"{states}", self._seen)
        return self.runs()

    def _seen(self) -> str:
        return "\n".join(f"{run['name']} {run['state']}" for run in self.runs())


@pytest.fixture
def reported(
    database: Database, worker_process: WorkerProcesses, tmp_path: Path, known: Known, prefect_server: PrefectServer
) -> Reported:
    spool = tmp_path / "spool"
    return Reported(Engine(database.dsn, worker_process, tmp_path), known, prefect_server.api_url, spool)


@pytest.mark.requirement("R8.2", "R8.3")
def test_a_drained_worker_and_its_successor_after_a_kill(reported: Reported, known: Known) -> None:
    """SIGTERM: COMPLETED with its counts and lines; SIGKILL: RUNNING until the next worker says CRASHED."""
    first = reported.start()
    reported.wait_for("RUNNING")
    first.process.terminate()
    assert first.process.wait(60) == 0
    (run,) = reported.wait_for("COMPLETED")
    assert run["state"]["message"].startswith(f"drained ({_RECORDS} done")
    assert any("started as" in line["message"] for line in known.lines(run["id"]))
    assert len(known.artifacts(run["id"])) == 1
    second = reported.start()
    reported.wait_for("COMPLETED", "RUNNING")
    second.process.kill()
    third = reported.start()
    reported.wait_for("COMPLETED", "CRASHED", "RUNNING")
    third.process.terminate()
    assert third.process.wait(60) == 0
    reported.wait_for("COMPLETED", "CRASHED", "COMPLETED")


@pytest.mark.requirement("R8.3")
def test_a_worker_that_is_cancelled_in_prefect(reported: Reported, known: Known) -> None:
    """CANCELLING drains it: exit 0, CANCELLED."""
    worker = reported.start()
    (run,) = reported.wait_for("RUNNING")
    known.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert worker.process.wait(60) == 0
    reported.wait_for("CANCELLED")
