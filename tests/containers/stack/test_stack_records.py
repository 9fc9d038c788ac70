"""Records go their whole way through the stack, each once, by both rpa1 workers."""

from __future__ import annotations

from itertools import count

import pytest
from ci.stack import operate
from ci.waits import until
from ci.workspace import ROOT

from .driver import PATIENCE_S, Driver, responses

pytestmark = pytest.mark.xdist_group("stack")
REAL = ROOT / "packages/flows/src/rpa_flows/data/anes96.csv"
ACCEPTED = 'rpa_intake_records_total{flow="rpa1",result="accepted"}'


def _taken_in(stack: Driver) -> dict[str, float]:
    """Records that each rpa1 worker took in over HTTP."""
    return {name: stack.metric(name, ACCEPTED) for name in stack.names("rpa1")}


@pytest.mark.requirement("R5.7", "R5.4")
def test_http_intake_reaches_both_workers(stack: Driver) -> None:
    """Requests through HAProxy are spread over the rpa1 workers, and each record is taken in once."""
    made = responses(60, seed=101)
    before = _taken_in(stack)
    for start in range(0, 60, 10):
        answer = stack.post_records(made.lines[start : start + 10], key=f"both-{start}")
        assert answer.status == 202, answer.body
        assert answer.json()["accepted"] == 10
    gained = {name: taken - before[name] for name, taken in _taken_in(stack).items()}
    assert len(gained) == 2
    assert all(gained.values()), gained
    assert sum(gained.values()) == 60
    again = stack.post_records(made.lines[:10], key="both-0")
    assert (again.status, again.replayed) == (202, True)
    stack.verify()


@pytest.mark.requirement("R7.3")
def test_the_door_is_only_open_to_the_token(stack: Driver) -> None:
    """Another token, or none, takes nothing in; and there is nothing else behind the door."""
    line = responses(1, seed=102).lines
    assert stack.post_records(line, key="stranger", token="guessed").status == 401
    assert stack.post_records(line, key="stranger", token="").status == 401
    assert stack.get("RPA_HTTP_PORT", "/metrics").status == 404
    assert stack.get("RPA_HTTP_PORT", "/health").status == 200


@pytest.mark.requirement("R9.4", "R9.1", "R9.6", "R5.7")
def test_a_file_goes_the_whole_way(stack: Driver) -> None:
    """The real survey from its file and 20,000 made-up responses: rpa1, rpa2, rpa3, receiver; each exactly once."""
    stack.compose("cp", "--index", "1", str(REAL), "rpa1:/srv/anes96.csv")
    before = stack.tally().get("rpa1", {"done": 0, "set_aside": 0})
    real = stack.load("/srv/anes96.csv")
    assert (real["accepted"], real["set_aside"]) == (944, 0)
    made = responses(20_000, seed=103)
    assert stack.load("-", form="ndjson", stdin=b"\n".join(made.lines).decode())["accepted"] == 20_000
    tally = stack.verify()
    assert tally["rpa1"]["set_aside"] - before["set_aside"] == made.refused
    assert tally["rpa1"]["done"] - before["done"] == 944 + 20_000 - made.refused
    # A container's name in the ledger is its host name: the first twelve digits of its id.
    assert stack.workers_of("rpa1") >= {one[:12] for one in stack.compose("ps", "--quiet", "rpa1").split()}
    assert stack.load("/srv/anes96.csv")["duplicates"] == 944  # the same file again changes nothing
    assert stack.verify() == tally


@pytest.mark.requirement("R5.4", "D2")
def test_a_third_worker_gets_its_share(stack: Driver) -> None:
    """compose.scale adds a worker, HAProxy finds it by itself, and it goes again without a trace."""
    try:
        assert operate.scale(["rpa1=3"], stack=stack.stack) == 0
        assert len(stack.names("rpa1")) == 3
        lines = iter(responses(5000, seed=104).lines)
        serial = count()

        def third_works() -> bool:
            assert stack.post_records([next(lines)], key=f"third-{next(serial)}").status == 202
            return all(_taken_in(stack).values())

        until(third_works, timeout_s=PATIENCE_S, what="the third worker to take records in")
    finally:
        assert operate.scale(["rpa1=2"], stack=stack.stack) == 0
    assert len(stack.names("rpa1")) == 2
    stack.verify()
    assert stack.post_records(responses(1, seed=105).lines, key="after").status == 202
    stack.verify()
