"""Entries for Prefect: what identifies a thing is in them, and the same life always makes the same ones."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest

from rpa_core.prefect import entries
from rpa_core.prefect.model import Counts, Run, new_run, timestamp
from rpa_core.resilience.spool.model import New

NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)


def _run(owner: str = "host:12:abcdef012345") -> Run:
    return new_run(flow="rpa1", owner=owner, host="host", now=NOW)


@pytest.mark.requirement("R8.3")
def test_a_life_is_one_run() -> None:
    """Flow and incarnation fix the local run; another incarnation of the same label is another run."""
    assert _run() == _run()
    assert _run().idempotency_key == f"rpa1:{_run().id}"
    assert _run().name == "rpa1-host-12-abcdef012345"
    assert _run("host:12:000000000000").id != _run().id
    assert uuid.UUID(_run().unique("end")) != uuid.UUID(_run().unique("begin"))


@pytest.mark.requirement("R8.3")
def test_entries_are_whole_ordered_and_fixed() -> None:
    """One stream a run, an id for each thing, event ids within; only logs and progress may be dropped."""
    run = _run()
    line = entries.Line("rpa.worker", 20, "done", timestamp(NOW))
    made = [
        entries.begin(run),
        entries.logs(run, 500, [line]),
        entries.progress(run, 3, timestamp(NOW), Counts(done=7), 3.5),
        entries.summary(run, "completed", "drained", timestamp(NOW), Counts(done=7), 2.0),
        entries.end(run, "completed", "drained", {"ended_at": timestamp(NOW)}),
    ]
    assert [each.id.removeprefix(run.id) for each in made] == [":begin", ":logs:500", ":progress:3", ":summary", ":end"]
    assert {each.stream for each in made} == {run.id}
    assert {each.kind for each in made} == {"prefect"}
    assert [each.keep for each in made] == [True, False, False, True, True]
    letters = [_read(each) for each in made]
    assert {letter.run for letter in letters} == {run}
    assert letters[1].data["lines"] == [list(line)]
    assert letters[2].data["id"] == run.unique("progress:3")
    assert letters[2].data["payload"] == {"done": 7, "retried": 0, "set_aside": 0, "lost": 0, "per_second": 3.5}
    assert letters[4].data["state"] == "COMPLETED"
    assert made[4] == entries.end(run, "completed", "drained", {"ended_at": timestamp(NOW)})


@pytest.mark.requirement("R8.3")
def test_a_runs_own_word_and_that_of_another_are_told_apart() -> None:
    """They share the entry's id, so that the first one put stands, and differ in their transition."""
    own, other = entries.end(_run(), "crashed", "", {}), entries.end(_run(), "crashed", "", {}, by_another=True)
    assert own.id == other.id
    assert _read(own).data["transition"] != _read(other).data["transition"]


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"what": "begin", "data": {}}', b'{"what": "x", "data": {}}'])
def test_what_is_no_report_is_refused(body: bytes) -> None:
    """A damaged or foreign body is told from a report."""
    with pytest.raises(ValueError):
        entries.read(body)
    with pytest.raises(ValueError):
        Run.decoded(orjson.dumps({"id": "x"}))


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("flow", ["rpa1", "Rpa_One.two", "_", "ünïcode"])
def test_artifact_keys_are_what_prefect_takes(flow: str) -> None:
    """Lower-case letters, digits and dashes, whatever the flow is called."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entries.artifact_key(flow))


@pytest.mark.requirement("R8.3")
def test_the_summary_is_one_table() -> None:
    """Messages with bars and newlines stay in their cell."""
    made = entries.summary(_run(), "failed", "a | b\nc", timestamp(NOW), Counts(3, 2, 1, 0), 1.5)
    rows = _read(made).data["markdown"].splitlines()
    assert r"| Ended | failed: a \| b c |" in rows
    assert "| Set aside | 1 |" in rows
    assert "| Done per second | 2.0 |" in rows
    assert all(row.startswith("|") and row.endswith("|") for row in rows)


@pytest.mark.requirement("R8.3")
def test_times_are_utc_with_microseconds() -> None:
    """Whatever zone they come in."""
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert timestamp(there) == timestamp(NOW) == "2026-11-21T10:00:00.123456Z"


def _read(new: New) -> entries.Letter:
    assert isinstance(new.body, bytes)
    return entries.read(new.body)
