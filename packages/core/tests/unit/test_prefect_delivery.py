"""Delivering to Prefect, with answers laid ready: what is asked, what is remembered, what is made anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from rpa_core.prefect import entries
from rpa_core.prefect.client import Reply, Unanswered
from rpa_core.prefect.delivery import Delivery, ServerIds
from rpa_core.prefect.model import KIND, Counts, Run, new_run, timestamp
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import Delivered, Entry, Later, New, Refused

NOW = datetime(2026, 11, 21, tzinfo=UTC)
Laid = Mapping[str, list[Reply | Unanswered]]


class _Server:
    """Answers by method and the last word of the path; the last answer laid is given again and again."""

    def __init__(self, **laid: list[Reply | Unanswered]) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._laid = {
            "flows": [Reply(status=200, body={"id": "F"})],
            "flow_runs": [Reply(status=201, body={"id": "R"})],
            "get": [Reply(status=200, body={"state": {"type": "RUNNING"}})],
            "labels": [Reply(status=204)],
            "set_state": [Reply(status=201, body={"status": "ACCEPT"})],
            "logs": [Reply(status=201)],
            "filter": [Reply(status=200, body=[])],
            "artifacts": [Reply(status=201, body={})],
            "events": [Reply(status=204)],
        } | laid

    def get(self, path: str) -> Reply | Unanswered:
        return self._answer("get", path)

    def post(self, path: str, body: Any) -> Reply | Unanswered:
        return self._answer(path.strip("/").split("/")[-1], body)

    patch = post

    def _answer(self, what: str, body: Any) -> Reply | Unanswered:
        self.asked.append((what, body))
        answers = self._laid[what]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def names(self) -> list[str]:
        return [what for what, _ in self.asked]


@pytest.fixture
def spools() -> Iterator[Spools]:
    limits: dict[str, Any] = {"max_bytes": 2**24, "max_age_s": 3600.0, "reserve_bytes": 0}
    with closing(open_spools(None, flow="f", label="l", incarnation="i", **limits)) as opened:
        yield opened


@pytest.fixture
def run() -> Run:
    return new_run(flow="f", owner="l:1", host="h", now=NOW)


def _entry(spools: Spools, new: New) -> Entry:
    spools.own.put(new)
    return next(each for each in spools.own.entries(KIND) if each.id == new.id)


def _line(microsecond: int) -> entries.Line:
    return entries.Line("a", 20, str(microsecond), f"2026-11-21T00:00:00.{microsecond:06d}Z")


def _delivery(server: _Server) -> Delivery:
    return Delivery(server)  # type: ignore[arg-type]  # what it is asked is all that matters here


@pytest.mark.requirement("R8.3")
def test_a_run_is_made_once_and_its_ids_are_kept(spools: Spools, run: Run) -> None:
    """The first entry asks for flow and run by names of ours; another process goes on with the noted ids."""
    server = _Server()
    delivery = _delivery(server)
    for new in (entries.begin(run), entries.logs(run, 0, [_line(1)])):
        assert delivery.deliver(spools.own, _entry(spools, new)) == Delivered()
    assert server.names() == ["flows", "flow_runs", "logs"]
    body = server.asked[1][1]
    assert body["idempotency_key"] == run.idempotency_key
    assert body["state"]["type"] == "RUNNING"
    assert body["labels"]["started_at"] == run.started_at
    assert delivery.server_ids(run) == ServerIds("F", "R")
    other = _Server()
    assert _delivery(other).deliver(spools.own, _entry(spools, entries.begin(run))) == Delivered()
    assert other.names() == []


@pytest.mark.requirement("R8.3")
def test_the_end_forgets_the_run(spools: Spools, run: Run) -> None:
    """Looked at, labelled, set with its fixed transition; nothing of it stays in the notes."""
    server = _Server()
    new = entries.end(run, "completed", "drained", {"ended_at": "t"})
    assert _delivery(server).deliver(spools.own, _entry(spools, new)) == Delivered()
    assert server.names() == ["flows", "flow_runs", "get", "labels", "set_state"]
    state = server.asked[-1][1]["state"]
    assert (state["type"], state["state_details"]) == (
        "COMPLETED",
        {"transition_id": run.unique("end:completed:False")},
    )
    assert spools.own.notes(KIND) == {}


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("laid", "verdict"),
    [
        ({"flows": [Unanswered(why="gone", sent=False)]}, Later("gone")),
        ({"flow_runs": [Reply(status=503, retry_after_s=3.0)]}, Later("HTTP 503", 3.0)),
        ({"flow_runs": [Reply(status=422, words="bad")]}, Refused("HTTP 422: bad")),
        ({"flows": [Reply(status=404)]}, Later("what answers is not Prefect's API", 30.0)),
        ({"flows": [Reply(status=200, body="<html>")]}, Later("what answers is not Prefect's API", 30.0)),
        ({"get": [Reply(status=500)]}, Later("HTTP 500")),
        ({"labels": [Reply(status=429)]}, Later("HTTP 429")),
        ({"set_state": [Reply(status=401)]}, Later("HTTP 401", 30.0)),
    ],
)
def test_trouble_on_the_way_of_an_end(spools: Spools, run: Run, laid: Laid, verdict: object) -> None:
    """Whichever call it strikes: later, or refused with the server's words."""
    entry = _entry(spools, entries.end(run, "completed", "", {}))
    assert _delivery(_Server(**laid)).deliver(spools.own, entry) == verdict


@pytest.mark.requirement("R8.3")
def test_a_run_that_is_gone_is_made_anew_once(spools: Spools, run: Run) -> None:
    """404 for the run: asked for again by its key; gone again, it is refused. A flow that is gone as well."""
    running, gone = Reply(status=200, body={"state": {"type": "RUNNING"}}), Reply(status=404)
    entry = _entry(spools, entries.end(run, "completed", "", {}))
    once = _Server(get=[gone, running])
    assert _delivery(once).deliver(spools.own, entry) == Delivered()
    assert once.names().count("flow_runs") == 2
    assert isinstance(_delivery(_Server(get=[gone])).deliver(spools.own, entry), Refused)
    stale = _Server(flow_runs=[Reply(status=409), Reply(status=201, body={"id": "R"})])
    assert _delivery(stale).deliver(spools.own, entry) == Delivered()
    assert stale.names().count("flows") == 2
    assert isinstance(_delivery(_Server(flow_runs=[Reply(status=409)])).deliver(spools.own, entry), Refused)


@pytest.mark.requirement("R8.3")
def test_lines_are_looked_for_only_in_doubt(spools: Spools, run: Run) -> None:
    """After an answer that did not come, what is there is left out; after a good one nobody asks any more."""
    there = [{"timestamp": _line(1).timestamp}, {"timestamp": _line(2).timestamp}]
    server = _Server(
        logs=[Unanswered(why="broke", sent=True), Reply(status=201)],
        filter=[Reply(status=200, body=there), Reply(status=200, body=[])],
    )
    delivery = _delivery(server)
    entry = _entry(spools, entries.logs(run, 0, [_line(1), _line(2), _line(3)]))
    assert delivery.deliver(spools.own, entry) == Later("broke")
    assert delivery.deliver(spools.own, entry) == Delivered()
    assert [line["message"] for line in server.asked[-2][1]] == ["3"]
    assert server.names() == ["flows", "flow_runs", "logs", "filter", "logs", "filter"]
    assert delivery.deliver(spools.own, _entry(spools, entries.logs(run, 3, [_line(4)]))) == Delivered()
    assert server.names()[6:] == ["logs"]


@pytest.mark.requirement("R8.3")
def test_a_gap_is_said(spools: Spools, run: Run) -> None:
    """Batches that were dropped for lack of room leave a line in their place."""
    server = _Server()
    delivery = _delivery(server)
    delivery.deliver(spools.own, _entry(spools, entries.logs(run, 0, [_line(1)])))
    delivery.deliver(spools.own, _entry(spools, entries.logs(run, 501, [_line(900)])))
    gap, line = server.asked[-1][1]
    assert gap["message"] == "500 lines are left out here: the spool had no room for them"
    assert gap["timestamp"] < line["timestamp"] == _line(900).timestamp


@pytest.mark.requirement("R8.3")
def test_an_artifact_is_left_once(spools: Spools, run: Run) -> None:
    """One that is there is not made again."""
    new = entries.summary(run, "completed", "", timestamp(NOW), Counts(), 1.0)
    entry = _entry(spools, new)
    fresh, again = _Server(), _Server(filter=[Reply(status=200, body=[{"id": "A"}])])
    for server in (fresh, again):
        assert _delivery(server).deliver(spools.own, entry) == Delivered()
    assert "artifacts" in fresh.names()
    assert "artifacts" not in again.names()


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("data", [{}, {"first": "x", "lines": []}, {"first": 0, "lines": [[1]]}])
def test_damaged_lines_are_refused(spools: Spools, run: Run, data: dict[str, Any]) -> None:
    """What cannot be read does not block what follows."""
    new = entries._new(run, "logs", "logs:0", data)
    assert isinstance(_delivery(_Server()).deliver(spools.own, _entry(spools, new)), Refused)
