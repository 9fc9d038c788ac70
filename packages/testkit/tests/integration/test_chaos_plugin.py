"""The plugin's chaos fixtures, run on small suites of their own."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from rpa_testkit.waits import until
from rpa_testkit.warden.processes import marked

_FEW = """
import pytest
from rpa_testkit.scenario.library import CRASH, BACKENDS
from rpa_testkit.scenario.model import Scenario, Service, SteadyState, Topology, Workload
from rpa_testkit.scenario.plan import Once

TWO = Topology(services=(Service(replicas=2),))
FEW = Scenario(name="few", topology=TWO, workload=Workload(records=200, batch=20, work_ms=5.0),
               faults=Once(fault=CRASH, at_s=0.2), checkers=("no-lost", "no-duplicates", "no-phantoms", "no-leaks"))
"""
_EIGHT = (
    _FEW
    + """
import os, pathlib
import orjson, psycopg
from dataclasses import replace
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.waits import until

BROKEN_SERVER = replace(FEW, name="own-server", faults=Once(fault=BACKENDS, at_s=0.2))

def note(n, warden, server, database, pids):
    worker = os.environ["PYTEST_XDIST_WORKER"]
    told = {"warden": warden.address, "pid": warden.pid, "server": server, "database": database, "pids": pids}
    pathlib.Path("seen", f"{worker}-{n}.json").write_bytes(orjson.dumps(told | {"worker": worker}))

def of_history(run):
    seen = [line.value.get("incarnation", "") for line in run.history if line.kind == "fault"]
    return [int(incarnation.split("/")[0]) for incarnation in seen if "/" in incarnation]

@pytest.mark.parametrize("n", range(4))
def test_scenario(chaos, warden, postgres_server, n):
    run = chaos.run(FEW)
    assert run.judgement.passed, run.judgement
    assert sum(line.kind == "outcome" for line in run.history) == 200
    note(n, warden, postgres_server.port, run.history.header.run_id, of_history(run))

@pytest.mark.parametrize("n", range(4, 7))
@pytest.mark.scenario(FEW)
def test_stack(stack, warden, postgres_server, n):
    assert set(stack.nodes) == {"worker-1", "worker-2", "postgres"}
    with psycopg.connect(stack.dsn) as connection:
        enqueue(connection, "probe", [NewRecord(b'{"n": 1}', f"only-{n}")])
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT count(*) FROM rpa.result").fetchone() == (1,), 60, "the result")
        assert connection.execute("SELECT key FROM rpa.record").fetchall() == [(f"only-{n}",)]
        assert connection.info.port == postgres_server.port
        name = connection.info.dbname
    note(n, warden, postgres_server.port, name, [int(stack.nodes[w].incarnation.split("/")[0]) for w in TWO.workers])

@pytest.mark.parametrize("n", [7])
@pytest.mark.scenario(BROKEN_SERVER)
def test_own_server(scenario_run, warden, n):
    assert scenario_run.judgement.passed, scenario_run.judgement
    note(n, warden, None, scenario_run.history.header.run_id, [])
"""
)


@pytest.fixture
def quiet_pytester(pytester: pytest.Pytester, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """All temporary things of the inner pytest go into a folder of this test."""
    monkeypatch.setenv("TMPDIR", str(open_folder))
    monkeypatch.delenv("CI", raising=False)
    return pytester


def _gone(folder: Path) -> list[str]:
    """What is left in a folder, but for pytest's own and what servers are made from again and again."""
    kept = ("pytest-of-", "rpa-testkit-postgres-", "rpa-testkit-data-")
    return [path.name for path in folder.iterdir() if not path.name.startswith(kept)]


@pytest.mark.slow
@pytest.mark.requirement("R9.1", "R9.6", "D1")
def test_eight_tests_on_four_workers_share_a_server_and_a_warden(
    quiet_pytester: pytest.Pytester, open_folder: Path
) -> None:
    """Each sees its own records and its own processes only; nothing is left of any of them."""
    quiet_pytester.makepyfile(_EIGHT)
    quiet_pytester.mkdir("seen")
    result = quiet_pytester.runpytest_subprocess("-n", "4", "--chaos-seed", "9", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=8)
    told = [orjson.loads(path.read_bytes()) for path in (quiet_pytester.path / "seen").iterdir()]
    assert len(told) == 8
    assert len({each["worker"] for each in told}) > 1
    assert len({(each["warden"], each["pid"]) for each in told}) == 1
    assert len({each["server"] for each in told if each["server"]}) == 1
    assert len({each["database"] for each in told}) == 8
    pids = [pid for each in told for pid in set(each["pids"])]
    assert len(pids) == len(set(pids)) >= 6 + 4
    runs = [each["database"] for each in told if "-process-" in each["database"]]
    assert len(runs) == 5
    assert not marked(runs)
    until(lambda: not _gone(open_folder), 20.0, "all temporary folders to be gone", lambda: str(_gone(open_folder)))
    assert not (quiet_pytester.path / "reports").exists()
    assert not Path(told[0]["warden"]).exists()


@pytest.mark.slow
@pytest.mark.requirement("R3.5")
def test_a_failing_test_says_how_to_do_the_same_again(quiet_pytester: pytest.Pytester) -> None:
    """Its seed, its verdicts, and a command that carries out the very same events; its folder stays."""
    quiet_pytester.makepyfile(
        _FEW
        + """
BAD = Scenario(name="bad", topology=TWO, workload=Workload(records=100, work_ms=5.0), checkers=("no-lost", "rate"),
               steady_state=SteadyState(min_rate=1e9), faults=Once(fault=CRASH, at_s=0.2))

@pytest.mark.scenario(BAD)
def test_bad(scenario_run):
    assert scenario_run.judgement.passed
"""
    )
    result = quiet_pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    seed = re.search(r"^chaos: --chaos-seed (\d+) --chaos-driver process$", text, re.MULTILINE)
    assert seed is not None
    result.stdout.fnmatch_lines(
        [
            f"bad on process, seed {seed[1]}: fail",
            "  pass     no-lost: *",
            "  fail     rate: * records/s, at least 1e+09 are asked for",
        ]
    )
    command = re.search(r"the same faults again: pytest (\S+) --chaos-driver process --chaos-replay (\S+)", text)
    assert command is not None
    recorded = (Path(command[2]) / "schedule.jsonl").read_bytes()
    again = quiet_pytester.runpytest_subprocess(
        command[1], "--chaos-driver", "process", "--chaos-replay", command[2], "-p", "no:cacheprovider"
    )
    again.assert_outcomes(failed=1)
    folders = sorted(quiet_pytester.path.glob("reports/chaos/*/*"))
    assert len(folders) == 2
    assert {(folder / "schedule.jsonl").read_bytes() for folder in folders} == {recorded}


@pytest.mark.slow
@pytest.mark.requirement("R3.3")
def test_runs_can_be_kept_and_replayed(quiet_pytester: pytest.Pytester) -> None:
    """--chaos-keep keeps a passing run's folder; `chaos.replay` carries its events out again."""
    quiet_pytester.makepyfile(
        _FEW
        + """
def test_again(chaos):
    first = chaos.run(FEW, seed=4)
    again = chaos.replay(first.folder, scenario=FEW)
    assert again.schedule == first.schedule
    assert again.schedule.seed == 4
    assert again.judgement.passed, again.judgement
"""
    )
    quiet_pytester.runpytest_subprocess("--chaos-keep", "-p", "no:cacheprovider").assert_outcomes(passed=1)
    kept = list(quiet_pytester.path.glob("reports/chaos/test_again-*/few-process-4-*/history.jsonl"))
    assert len(kept) == 2


@pytest.mark.requirement("R3.3")
def test_without_an_engine_docker_is_skipped_and_fails_in_ci(
    quiet_pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; and a test that is not for this driver is skipped anywhere."""
    quiet_pytester.makepyfile(
        _FEW
        + """
def test_containers(chaos):
    chaos.run(FEW)

@pytest.mark.scenario(FEW, drivers=["process"])
def test_processes(scenario_run):
    pass
"""
    )
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    arguments = ("--chaos-driver", "docker", "-rs", "-p", "no:cacheprovider")
    result = quiet_pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines_random(["*no Docker Engine answers*", "*not for the driver docker*but for process*"])
    monkeypatch.setenv("CI", "true")
    result = quiet_pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(skipped=1, failed=1)


@pytest.mark.requirement("D1")
def test_markers_and_fixtures_say_what_they_want(quiet_pytester: pytest.Pytester) -> None:
    """A test without the marker; a unit test that asks for processes."""
    folder = quiet_pytester.path / "tests" / "unit"
    folder.mkdir(parents=True)
    (folder / "test_unit.py").write_text("def test_unit(chaos): pass\n")
    quiet_pytester.makepyfile("def test_unmarked(scenario_run): pass\n")
    result = quiet_pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines_random(["*scenario_run needs @pytest.mark.scenario*", "*move it to tests/integration*"])
