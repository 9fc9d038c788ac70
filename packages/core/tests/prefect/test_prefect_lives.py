"""Lives and what Prefect knows of them: killed, repeated, cancelled, deleted, believed dead."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rpa_core.prefect.client import PrefectClient
from rpa_core.prefect.delivery import Delivery
from rpa_core.resilience.spool.model import Delivered, New
from rpa_testkit.prefect_server import PrefectServer
from rpa_testkit.waits import until

from .reported import SECRET, Known, Life


def _snapshot(known: Known, flow: str) -> dict[str, Any]:
    """All that a server knows of a flow's runs, but for what time alone changes."""
    return {
        run["id"]: {
            "name": run["name"],
            "labels": run["labels"],
            "states": known.states(run["id"]),
            "lines": [(line["id"], line["message"]) for line in known.lines(run["id"])],
            "artifacts": [each["id"] for each in known.artifacts(run["id"])],
            "events": [each["id"] for each in known.events(run["id"], "rpa.")],
        }
        for run in known.runs(flow)
    }


@pytest.mark.requirement("R8.3")
def test_a_life_is_one_run_with_its_true_times(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """Name, tags, labels, progress, lines without secrets and the summary are there; states in order."""
    life = live(prefect_server.api_url, flow)
    life.reporting.begin()
    life.reporting.start()
    life.work(10)
    life.logger.debug("below the level")
    life.logger.error("failed with %s", SECRET, exc_info=ValueError(f"said {SECRET}"))
    until(lambda: life.reporting.handler.empty, 20, "the lines to be put")
    run_id = until(lambda: [run["id"] for run in known.runs(flow)], 20, "the run to be known")[0]
    until(lambda: known.events(run_id, "rpa."), 20, "progress to be known")
    until(lambda: known.events(run_id, "prefect.flow-run.heartbeat"), 20, "a heartbeat")
    life.work(10)
    life.reporting.end("completed", f"drained by {SECRET}")
    life.reporting.end("failed", "a second word does not count")
    life.settle()
    run = known.run(flow)
    assert known.states(run["id"]) == ["RUNNING", "COMPLETED"]
    assert run["name"] == life.reporting.run.name
    assert "rpa" in run["tags"]
    assert run["state"]["message"] == "drained by ******** (20 done, 0 retried, 0 set aside, 0 lost)"
    labels = run["labels"]
    assert labels["incarnation"] == life.reporting.run.incarnation
    assert labels["started_at"] == life.reporting.run.started_at
    assert known.numbers(run["id"]) == list(range(20))
    lines = known.lines(run["id"])
    assert [line["message"] for line in lines if line["level"] == logging.ERROR] == [
        "failed with ********\nValueError: said ********"
    ]
    assert all(labels["started_at"] <= line["timestamp"] <= labels["ended_at"] for line in lines)
    (artifact,) = known.artifacts(run["id"])
    assert artifact["key"] == f"{flow}-summary"
    assert "| Done | 20 |" in artifact["data"]
    (progress, *_) = known.events(run["id"], "rpa.")
    assert progress["payload"]["done"] == 10
    assert labels["started_at"] <= progress["occurred"] <= labels["ended_at"]


@pytest.mark.requirement("R8.3")
def test_the_same_reports_again_change_nothing(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """Every entry of a life is delivered three times, by processes that know nothing of each other."""
    life = live(prefect_server.api_url, flow)
    life.reporting.begin()
    life.work(600)
    life.reporting._put_progress()  # due only after some time
    life.reporting.end("completed", "drained")
    entries = life.spools.own.entries("prefect")
    assert [each.id.split(":")[1] for each in entries] == ["begin", "progress", "logs", "logs", "summary", "end"]
    snapshots = []
    for _ in range(3):
        client = PrefectClient(prefect_server.api_url)
        delivery = Delivery(client)
        other = live(prefect_server.api_url, flow).spools.own  # a spool without notes
        for entry in entries:
            assert delivery.deliver(other, entry) == Delivered()
        run_id = known.run(flow)["id"]
        until(lambda: known.events(run_id, "rpa."), 20, "progress to be known")  # noqa: B023 - called here
        snapshots.append(_snapshot(known, flow))
        client.close()
    (told,) = snapshots[0].values()
    (run_id,) = snapshots[0]
    for again in snapshots[1:]:
        assert list(again) == list(snapshots[0])
        for name, what in told.items():
            assert again[run_id][name] == what, f"{name} changed"
    assert [len(told[name]) for name in ("states", "lines", "artifacts", "events")] == [2, 600, 1, 1]


@contextmanager
def _killed(api_url: str, flow: str, folder: Path, before: Callable[[], object]) -> Any:
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), api_url, flow, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            before()
        finally:
            process.send_signal(signal.SIGKILL)
    yield


@pytest.mark.requirement("R8.2", "R8.3")
def test_a_killed_life_is_ended_by_the_next(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str, tmp_path: Path
) -> None:
    """SIGKILL of a process whose reports were delivered: the next life of the flow puts CRASHED."""
    seen = lambda: known.runs(flow) and len(known.numbers(known.run(flow)["id"])) == 600  # noqa: E731
    with _killed(prefect_server.api_url, flow, tmp_path, lambda: until(seen, 30, "its lines to be known")):
        life = live(prefect_server.api_url, flow, folder=tmp_path)
    assert len(life.spools.adopted()) == 1
    life.reporting.start()
    life.reporting.begin()
    life.reporting.end("completed", "drained")
    life.settle()
    dead, own = known.runs(flow)
    assert known.states(dead["id"]) == ["RUNNING", "CRASHED"]
    assert "ended without a word" in dead["state"]["message"]
    assert known.numbers(dead["id"]) == list(range(600))
    assert "noticed_at" in dead["labels"]
    assert own["name"] == life.reporting.run.name
    assert known.states(own["id"]) == ["RUNNING", "COMPLETED"]
    assert life.spools.adopted()[0].notes("prefect") == {}


@pytest.mark.requirement("R8.2", "R8.3")
def test_a_killed_life_that_nobody_heard_of_is_told_whole(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str, tmp_path: Path
) -> None:
    """SIGKILL while Prefect was away: the adopter tells of its begin, its lines and its end, once."""
    with _killed("http://127.0.0.1:9/api", flow, tmp_path, lambda: None):
        pass
    for _ in range(2):  # who adopts it a second time adds nothing
        life = live(prefect_server.api_url, flow, folder=tmp_path)
        life.reporting.start()
        life.settle()
        life.close()
    dead = known.run(flow)
    assert known.states(dead["id"]) == ["RUNNING", "CRASHED"]
    assert known.numbers(dead["id"]) == list(range(600))


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("word", "told"), [("cancelled", "CANCELLED"), ("completed", "CANCELLED"), ("failed", "FAILED")]
)
def test_a_cancellation_is_seen_and_answered(
    word: Any, told: str, prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """CANCELLING in Prefect reaches the life; its end is CANCELLED, or the failure that it was."""
    life = live(prefect_server.api_url, flow)
    life.reporting.start()
    life.reporting.begin()
    run_id = until(lambda: [run["id"] for run in known.runs(flow)], 20, "the run to be known")[0]
    assert not life.reporting.cancel_requested.is_set()
    known.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    assert life.reporting.cancel_requested.wait(20)
    life.reporting.end(word, "as asked")
    life.settle()
    assert known.states(run_id) == ["RUNNING", "CANCELLING", told]


@pytest.mark.requirement("R8.3")
def test_a_life_that_was_believed_dead_has_the_last_word(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """CRASHED, set by somebody who missed heartbeats, gives way to the run's own end; other ends stay."""
    for state, last in (("CRASHED", "COMPLETED"), ("FAILED", "FAILED")):
        life = live(prefect_server.api_url, flow)
        life.reporting.start()
        life.reporting.begin()
        name = life.reporting.run.name
        found = lambda: [run["id"] for run in known.runs(flow) if run["name"] == name]  # noqa: E731, B023
        (run_id,) = until(found, 20, "the run to be known")
        known.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": state}})
        life.reporting.end("completed", "drained")
        life.settle()
        assert known.states(run_id)[-1] == last


@pytest.mark.requirement("R8.3")
def test_a_run_deleted_on_the_server_is_made_anew(
    prefect_server: PrefectServer, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """A person deletes the run, or the flow with it: its end is told nevertheless, by one run."""
    for path in ("flow_runs", "flows"):
        life = live(prefect_server.api_url, flow)
        life.reporting.start()
        life.reporting.begin()
        (run,) = until(lambda: known.runs(flow), 20, "the run to be known")
        deleted = {"flow_runs": run["id"], "flows": run["flow_id"]}[path]
        known.ask("DELETE", f"/{path}/{deleted}")
        life.reporting.end("completed", "drained")
        life.settle()
        run = known.run(flow)
        assert known.states(run["id"]) == ["RUNNING", "COMPLETED"]
        assert not life.spools.own.dead("prefect")
        known.ask("DELETE", f"/flow_runs/{run['id']}")


@pytest.mark.slow
@pytest.mark.requirement("R2.3")
def test_a_server_with_a_password_and_csrf_protection(live: Callable[..., Life], flow: str) -> None:
    """Both are given without being asked for twice; a wrong password is found out and loses nothing."""
    settings = {"PREFECT_SERVER_API_AUTH_STRING": f"admin:{SECRET}", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
    with PrefectServer(settings=settings) as server:
        wrong = live(server.api_url, flow, auth_string="admin:guessed")
        wrong.reporting.start()
        wrong.reporting.begin()
        until(lambda: wrong.refusals, 20, "the refusal to be noticed")
        wrong.reporting.end("failed", "could not tell")
        assert not wrong.reporting.stop(2.0)
        waiting = wrong.spools.own.entries("prefect")
        assert len(waiting) == 3
        right = live(server.api_url, flow, auth_string=f"admin:{SECRET}")
        right.spools.own.put(*(New(each.id, each.kind, each.stream, each.body) for each in waiting))
        right.reporting.start()
        right.settle()
        known = Known(server.api_url, auth=("admin", SECRET))
        known.take_token()
        run = known.run(flow)
        assert known.states(run["id"]) == ["RUNNING", "FAILED"]
        assert datetime.fromisoformat(run["labels"]["ended_at"]) > datetime.fromisoformat(run["labels"]["started_at"])
        known.close()
