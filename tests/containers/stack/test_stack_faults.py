"""What the stack does when a part of it is stopped while records are under way."""

from __future__ import annotations

import pytest
from ci.waits import until

from .driver import PATIENCE_S, Driver, docker, inspect, responses

pytestmark = pytest.mark.xdist_group("stack")


def _load(stack: Driver, number: int, seed: int) -> None:
    made = responses(number, seed=seed)
    assert stack.load("-", form="ndjson", stdin=b"\n".join(made.lines).decode())["accepted"] == number


@pytest.mark.requirement("R5.5", "R9.3")
def test_a_worker_that_is_stopped_while_it_works_loses_nothing(stack: Driver) -> None:
    """docker stop, with records in hand: exit code 0 within the grace, and the other worker finishes the rest."""
    stopped, other = sorted(inspect(*stack.names("rpa1")), key=lambda one: str(one["Name"]))
    mine, others = (str(one["Id"])[:12] for one in (stopped, other))
    _load(stack, 30_000, seed=201)

    def leased() -> bool:
        return stack.sql(f"SELECT 1 FROM rpa.chunk WHERE state = 'l' AND owner LIKE '{mine}:%' LIMIT 1") != []

    until(leased, timeout_s=PATIENCE_S, what="the worker to hold records", every_s=0.02)
    try:
        docker("stop", stopped["Name"].lstrip("/"))
        left = stack.unfinished("rpa1")
        (state,) = (one["State"] for one in inspect(stopped["Id"]))
        assert state["ExitCode"] == 0, state
        assert not state["OOMKilled"]
        assert left > 0, "all was done before the worker was stopped: load more"
        assert stack.sql(f"SELECT 1 FROM rpa.chunk WHERE owner LIKE '{mine}:%' AND state = 'l'") == []
        stack.verify()
        finished_at = state["FinishedAt"]
        (after,) = stack.sql(
            "SELECT coalesce(sum(n_ok), 0) FROM rpa.chunk_done"
            f" WHERE owner LIKE '{others}:%' AND done_at > '{finished_at}'::timestamptz"
        )
        assert int(after[0]) > 0
        (late,) = stack.sql(
            "SELECT count(*) FROM rpa.chunk_done"
            f" WHERE owner LIKE '{mine}:%' AND done_at > '{finished_at}'::timestamptz"
        )
        assert late == ("0",)
    finally:
        docker("start", stopped["Name"].lstrip("/"))
    until(lambda: all(one.well for one in stack.containers("rpa1")), timeout_s=PATIENCE_S, what="both workers again")


@pytest.mark.requirement("R2.2", "R2.5", "R8.1", "R9.3")
def test_workers_outlive_a_restart_of_postgresql(stack: Driver) -> None:
    """PostgreSQL restarts in mid-run: no worker does, and everything is done exactly once."""
    workers = [one.name for one in stack.containers("rpa1", "rpa2", "rpa3")]
    before = {one["Id"]: one["State"]["StartedAt"] for one in inspect(*workers)}
    _load(stack, 20_000, seed=202)
    until(lambda: stack.unfinished("rpa3") > 0, timeout_s=PATIENCE_S, what="records to be on their way", every_s=0.05)
    stack.compose("restart", "postgres")
    until(lambda: all(one.well for one in stack.containers("postgres")), timeout_s=PATIENCE_S, what="PostgreSQL again")
    assert stack.unfinished("rpa3") + stack.unfinished("rpa1") > 0, "all was done before the restart: load more"
    stack.verify()
    found = inspect(*workers)
    assert {one["Id"]: one["State"]["StartedAt"] for one in found} == before
    assert [one["RestartCount"] for one in found] == [0] * len(found)
    assert all(one.well for one in stack.containers())
