"""Faults between a life and Prefect: afterwards the server knows exactly what happened, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from rpa_core.prefect.entries import Line, logs
from rpa_testkit.waits import until

from .door import Door, Fault
from .reported import SECRET, Known, Life

LINES = 700  # more than a batch


def _live_through(life: Life, known: Known) -> None:
    """Begin, work, end; then the server has one run, its states in order and every line once, in order."""
    life.reporting.start()
    life.reporting.begin()
    life.work(LINES)
    until(lambda: life.reporting.handler.empty, 20, "the lines to be put")
    life.work(LINES)
    life.reporting.end("completed", "drained")
    life.settle()
    run = known.run(life.flow)
    assert known.states(run["id"]) == ["RUNNING", "COMPLETED"]
    assert known.numbers(run["id"]) == list(range(2 * LINES))
    assert len(known.artifacts(run["id"])) == 1
    started, ended = (datetime.fromisoformat(run["labels"][name]) for name in ("started_at", "ended_at"))
    assert timedelta(0) < ended - started < timedelta(seconds=20)


def _told_to(end: str) -> Callable[[str, str], bool]:
    return lambda method, path: method != "GET" and path.endswith(end)


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(times=12, status=503), id="503"),
        pytest.param(Fault(times=6, status=500, body={"exception_message": "Internal Server Error"}), id="500"),
        pytest.param(Fault(times=5, status=429, headers={"Retry-After": "1"}), id="429"),
        pytest.param(Fault(times=4, status=302, headers={"Location": "http://127.0.0.1:9/login"}), id="302"),
    ],
)
def test_an_answer_that_says_later_costs_nothing(
    fault: Fault, door: Door, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """503, 500, 429 with Retry-After and a login page in the way: one run, states and lines in order."""
    door.plan(fault)
    _live_through(live(door.api_url, flow), known)
    assert fault.struck == fault.times


@pytest.mark.requirement("R8.3")
def test_an_answer_that_never_comes_doubles_nothing(
    door: Door, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """Each kind of request is carried out and its answer lost, twice: one run, one artifact, every line once."""
    again = ("/flows/", "/flow_runs/", "/logs/", "/labels")
    looked_for = ("/artifacts/", "/set_state")  # and found: they are not sent a second time
    faults = {end: door.plan(Fault(times=2, on=_told_to(end), cut=True)) for end in (*again, *looked_for)}
    _live_through(live(door.api_url, flow), known)
    assert [faults[end].struck for end in again] == [2] * len(again)
    assert [faults[end].struck for end in looked_for] == [1] * len(looked_for)


@pytest.mark.slow
@pytest.mark.requirement("R8.3")
def test_an_answer_that_comes_too_late_doubles_nothing(
    door: Door, known: Known, live: Callable[..., Life], flow: str
) -> None:
    """The server acts at once, its answers come 3 s later, after the client's time is over."""
    fault = door.plan(Fault(times=6, on=lambda method, path: method == "POST", late_s=3.0))
    _live_through(live(door.api_url, flow, timeout_s=1.0), known)
    assert fault.struck == fault.times


@pytest.mark.slow
@pytest.mark.requirement("R8.3")
def test_a_slow_server_slows_nobody(door: Door, known: Known, live: Callable[..., Life], flow: str) -> None:
    """Every answer takes 3 s: 10,000 log lines, begin and end take the worker less than one of them."""
    fault = door.plan(Fault(times=5, late_s=3.0))
    life = live(door.api_url, flow)
    life.reporting.start()
    began = time.monotonic()
    life.reporting.begin()
    life.work(5_000)
    life.reporting.end("completed", "drained")
    assert time.monotonic() - began < 2.0
    life.settle()
    assert fault.struck == fault.times
    assert known.states(known.run(flow)["id"]) == ["RUNNING", "COMPLETED"]


@pytest.mark.requirement("R2.3")
def test_who_is_not_let_in_waits_and_says_so_once(
    door: Door, known: Known, live: Callable[..., Life], flow: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401 for a while: one ERROR, one call for an alert, one when it is over, and nothing is lost."""
    fault = door.plan(Fault(times=5, status=401, body={"exception_message": "Unauthorized"}))
    life = live(door.api_url, flow, api_key=SECRET)
    _live_through(life, known)
    assert fault.struck == fault.times
    assert life.refusals == ["HTTP 401 Unauthorized", None]
    errors = [each for each in caplog.records if each.name == "rpa.prefect" and each.levelname == "ERROR"]
    assert [each.__dict__["event.action"] for each in errors] == ["prefect.unauthorized"]
    assert SECRET not in caplog.text
    name, labels = "rpa_prefect_requests_total", {"result": "unauthorized"}
    assert life.metrics.registry.get_sample_value(name, labels) == fault.times


@pytest.mark.requirement("R2.3")
def test_what_the_server_refuses_becomes_a_dead_letter(
    known: Known, live: Callable[..., Life], flow: str, prefect_server: object
) -> None:
    """422: the server's words are kept with the entry, and everything after it is told."""
    life = live(prefect_server.api_url, flow)  # type: ignore[attr-defined]  # the fixture's class needs no import here
    wrong = Line("a", "loud", "no level is called so", "2026-01-01T00:00:00.000001Z")  # type: ignore[arg-type]  # on purpose
    life.spools.own.put(logs(life.reporting.run, 1_000_000, [wrong]))
    _live_through(life, known)
    (dead,) = life.spools.own.dead("prefect")
    assert dead.entry.id.endswith(":logs:1000000")
    assert "422" in dead.reason
    assert "body.0.level" in dead.reason
