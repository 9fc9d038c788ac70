"""Deployments on the server: made once, corrected where they differ, otherwise left alone."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.requirement("R2.3")


@pytest.mark.slow
def test_registering_twice_changes_nothing(prefect: Any) -> None:
    """The second time says so, and no deployment, no schedule and no scheduled run is another one."""
    schedule = ["--schedule", "rpa2=*/15 * * * *"]
    first = prefect.register(*schedule)
    before = [prefect.deployment(flow) for flow in ("rpa1", "rpa2", "rpa3")]
    assert first[0] == f"work pool {prefect.pool}: created"
    again = prefect.register(*schedule)
    assert again == ["rpa1/rpa1: unchanged", "rpa2/rpa2: unchanged", "rpa3/rpa3: unchanged"]
    assert [prefect.deployment(flow) for flow in ("rpa1", "rpa2", "rpa3")] == before


@pytest.mark.slow
def test_a_schedule_is_made_moved_and_taken_away(prefect: Any) -> None:
    """Visible in the server and in `list`; one that somebody has paused stays paused; without --schedule it stays."""
    prefect.register("--schedule", "rpa2=*/15 * * * *")
    (made,) = prefect.deployment("rpa2")["schedules"]
    assert (made["schedule"]["cron"], made["schedule"]["timezone"], made["active"]) == ("*/15 * * * *", "UTC", True)
    path = f"/deployments/{prefect.deployment('rpa2')['id']}/schedules/{made['id']}"
    prefect.ask(path, {"active": False}, method="PATCH")
    prefect.register()
    prefect.register("--schedule", "rpa2=0 4 * * *")
    (moved,) = prefect.deployment("rpa2")["schedules"]
    assert (moved["schedule"]["cron"], moved["active"]) == ("0 4 * * *", False)
    listed = prefect.command("list").stdout.splitlines()
    assert f"rpa2/rpa2  work pool {prefect.pool}  0 4 * * * (paused)" in listed
    prefect.register("--schedule", "rpa2=")
    assert prefect.deployment("rpa2")["schedules"] == []


@pytest.mark.slow
def test_the_server_knows_no_setting_of_the_worker(prefect: Any) -> None:
    """What is registered is the same, whatever CONTAINER_* variables there are; and nothing of them is in it."""
    prefect.register()
    before = prefect.deployment("rpa2")
    done = prefect.command(
        "register", "--pool", prefect.pool, CONTAINER_DATABASE_RPA_DB_URL="postgresql://u:s3cret@db/x"
    )
    assert done.stdout.splitlines()[1] == "rpa2/rpa2: unchanged"
    assert prefect.deployment("rpa2") == before
    assert "s3cret" not in str(before)
    assert before["entrypoint"] == "rpa_flows.deployments.flows.rpa2"
    assert set(before["parameter_openapi_schema"]["properties"]) == {"until_empty", "max_seconds"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environ", "code", "said"),
    [
        (["register", "--pool", "no-such-pool"], {}, 64, "add --create-pool, or make it with `prefect work-pool"),
        (["list"], {"PREFECT_API_URL": "http://127.0.0.1:1/api"}, 69, "does not answer"),
        (["list"], {"PREFECT_API_URL": ""}, 64, "set PREFECT_API_URL"),
        (["register", "--pool", "p", "--flow", "rpa9"], {}, 64, "no flow is called rpa9 (installed: rpa1, rpa2, rpa3"),
        (["register", "--pool", "p", "--schedule", "rpa2=often"], {}, 64, "'often' is no cron line"),
        (["register", "--pool", "p", "--schedule", "often"], {}, 64, "--schedule takes FLOW=CRON with one of rpa1"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    prefect: Any, arguments: list[str], environ: dict[str, str], code: int, said: str
) -> None:
    """One line, no traceback, the exit codes of `rpa`."""
    done = prefect.command(*arguments, **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
