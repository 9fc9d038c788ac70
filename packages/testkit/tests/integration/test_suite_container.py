"""ContainerTestSuite and AutomatedTestFramework on processes: they pass what is sound and fail what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rpa_core.errors import UsageError
from rpa_testkit import AutomatedTestFramework, ContainerTestSuite, Minima, TestSuite, TestValidator
from rpa_testkit.scenario.library import SCENARIOS
from rpa_testkit.scenario.model import Service, Topology
from rpa_testkit.scenario.plan import Mix
from rpa_testkit.suite.runs import Runs
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden
from rpa_testkit.warden.processes import marked

_BROKEN = """
from dataclasses import replace
from rpa_testkit import probe

def twice(connection, done):
    probe.write_effects(connection, done)
    probe.write_effects(connection, done)

def talkative(record, context):
    import os, pathlib
    print(pathlib.Path(os.environ["CONTAINER_INTAKE_TOKEN_FILE"]).read_text(), flush=True)
    return probe.handle(record, context)

TWICE = replace(probe.FLOW, effects=twice)
TALKATIVE = replace(probe.FLOW, handle=talkative)
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of broken flows that workers can import."""
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "broken_flows.py").write_text(_BROKEN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
    return folder


@pytest.fixture
def suite(tmp_path: Path, warden: Warden) -> ContainerTestSuite:
    """On processes, with few records."""
    return ContainerTestSuite(seed=5, reports=tmp_path / "runs", records=600, warden=warden)


def _flow(name: str) -> Topology:
    claims = {"CONTAINER_CLAIM_RECORDS": "25"}
    return Topology(services=(Service(flow=f"broken_flows:{name}", replicas=2, env=claims),))


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R9.1")
def test_three_workers_share_the_work_and_nothing_is_done_twice(suite: ContainerTestSuite) -> None:
    """Undisturbed and under kills; the run's histories say the same when they are read again."""
    result = suite.run_distributed_processing_tests()
    assert result.status == "passed", result.errors
    assert all(len(shares) > 1 for shares in result.details["shares"].values())
    validator = TestValidator([Path(run) for run in result.details["runs"]])
    assert validator.validate_no_duplicate_processing().figures == {"records": 1200, "duplicates": 0}
    handled = validator.validate_error_handling()
    assert handled.valid, handled
    assert handled.dead == handled.rejected > 0


@pytest.mark.slow
@pytest.mark.requirement("R3.1")
def test_a_flow_with_double_effects_fails(broken: Path, tmp_path: Path, warden: Warden) -> None:
    """What the suite is for."""
    topology = _flow("TWICE")
    suite = ContainerTestSuite(seed=5, reports=tmp_path / "runs", records=200, topology=topology, warden=warden)
    result = suite.run_distributed_processing_tests()
    assert result.status == "failed"
    assert any("no-duplicates is fail" in error and "2 effects" in error for error in result.errors)


@pytest.mark.slow
@pytest.mark.requirement("R3.2", "R9.2")
def test_performance_is_measured_and_judged(tmp_path: Path, warden: Warden) -> None:
    """At least 100 records/s, with latencies, memory and CPU time; a minimum out of reach is not reached."""
    suite = ContainerTestSuite(seed=5, reports=tmp_path / "runs", warden=warden)
    result = suite.run_performance_tests(Minima(rate=1e9, p50_s=60.0))
    assert result.status == "failed"
    assert len(result.errors) == 1
    assert "at least 1e+09 are asked for" in result.errors[0]
    assert result.metrics.processing_rate > 100
    assert 0 < result.latency_s["p50"] <= result.latency_s["p95"] <= result.latency_s["p99"] <= result.latency_s["max"]
    assert result.metrics.resource_efficiency > 100
    assert all(result.peak_rss_bytes[name] > 10 * 2**20 for name in ("worker-1", "worker-2", "postgres"))


@pytest.mark.slow
@pytest.mark.requirement("R3.3", "R9.3")
def test_faults_of_three_kinds_of_things_are_tolerated(
    tmp_path: Path, warden: Warden, counted: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes, the network, PostgreSQL; with the longest recovery of each kind. In short: fewer faults of each."""
    most, scenarios = counted(2, 100), dict(SCENARIOS)
    for name in ("processes", "network", "postgres"):
        scenario = SCENARIOS[name]
        assert isinstance(scenario.faults, Mix)
        faults = replace(scenario.faults, count=min(most, scenario.faults.count))
        records = counted(1_000, scenario.workload.records)
        scenarios[name] = replace(scenario, faults=faults, workload=replace(scenario.workload, records=records))
    monkeypatch.setattr("rpa_testkit.suite.tests.SCENARIOS", scenarios)
    result = ContainerTestSuite(seed=2, reports=tmp_path / "runs", warden=warden).run_fault_tolerance_tests()
    assert result.status == "passed", [scenario.errors for scenario in result.scenarios]
    assert [scenario.test_name for scenario in result.scenarios] == ["processes", "network", "postgres"]
    assert sum(result.faults.values()) == counted(6, 21)
    of_all = {"crash", "pause", "partition", "latency", "postgres-crash", "backends-terminated"}
    assert of_all <= set(result.faults) or counted(True, False)
    assert not result.not_run
    assert set(result.recovery_s) == set(result.faults)


@pytest.mark.requirement("R7.1", "R7.2", "R9.4")
def test_processes_keep_their_secrets_and_are_not_said_to_be_confined(suite: ContainerTestSuite) -> None:
    """What containers alone can show is skipped, with the reason."""
    result = suite.run_security_tests()
    by_status = {
        status: [check for check in result.checks if check.status == status] for status in ("passed", "skipped")
    }
    assert result.status == "passed", result.checks
    assert result.check("intake-needs-its-token").status == "passed"
    assert result.check("hostile-input-is-refused").details["texts"] > 20
    assert len(by_status["passed"]) == 5
    assert len(by_status["skipped"]) == len(result.checks) - 5 >= 9
    assert all("driver docker" in check.errors[0] for check in by_status["skipped"])
    with pytest.raises(LookupError, match="no check is called 'x'"):
        result.check("x")
    assert not list(suite.runs.reports.glob(".secrets*"))


@pytest.mark.requirement("R7.2")
def test_a_token_in_a_log_is_found(broken: Path, tmp_path: Path, warden: Warden) -> None:
    """By the check of the logs, and no other."""
    suite = ContainerTestSuite(seed=5, reports=tmp_path / "runs", topology=_flow("TALKATIVE"), warden=warden)
    result = suite.run_security_tests()
    assert result.status == "failed"
    assert [check.test_name for check in result.checks if check.status == "failed"] == ["no-secret-in-logs"]
    assert "holds a secret" in result.check("no-secret-in-logs").errors[0]


@pytest.mark.slow
@pytest.mark.requirement("R3.5", "R9.5", "R9.7")
def test_the_framework_leaves_nothing_but_its_reports(tmp_path: Path) -> None:
    """Set up, two suites, cleaned up; every run has its four reports."""
    with AutomatedTestFramework(seed=3, reports=tmp_path / "runs") as framework:
        result = framework.run_test_suite(TestSuite(name="short", tests=("distributed", "security"), records=300))
        environment = framework.setup_test_environment()  # again: the same one
        assert Path(environment.warden).exists()
        assert (environment.driver, environment.images) == ("process", {})
    assert result.status == "passed", result.errors
    assert list(result.details["results"]) == ["distributed", "security"]
    reports = framework.generate_test_reports()
    assert [report.scenario for report in reports] == ["distributed", "distributed-kills"]
    for report in reports:
        assert report.status == "passed"
        assert {path.suffix for path in report.files} == {".json", ".xml", ".md", ".html"}
        assert report.replay.endswith(str(report.files[0].parent))
    until(lambda: not Path(environment.warden).exists(), 20, "the warden to be gone")
    assert not marked([report.run_id for report in reports])
    framework.cleanup_test_environment()


@pytest.mark.requirement("R9.5")
def test_what_fails_in_a_suite_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test that could not be run is told, the next one is run, nothing is left."""

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(Runs, "run", fails)
    framework = AutomatedTestFramework(seed=3, reports=tmp_path / "runs")
    with framework:
        result = framework.run_test_suite(TestSuite(tests=("performance", "security")))
    assert result.status == "failed"
    assert result.errors == ("performance could not be run: OSError: no such thing",)
    assert result.details["results"]["security"].status == "passed"


@pytest.mark.requirement("R9.5")
def test_an_environment_must_be_there(tmp_path: Path) -> None:
    """And its driver must be known."""
    with pytest.raises(UsageError, match="setup_test_environment first"):
        AutomatedTestFramework(reports=tmp_path).run_test_suite()
    with pytest.raises(UsageError, match="no driver is called 'podman'"):
        AutomatedTestFramework("podman", reports=tmp_path).setup_test_environment()


@pytest.mark.requirement("D1")
def test_importing_the_package_loads_nothing_else() -> None:
    """Containers have rpa_core alone; and pytest imports the plugin at every start."""
    heavy = ("psycopg", "docker", "jinja2", "psutil", "rich", "pytest", "orjson", "rpa_core", "rpa_testkit.suite")
    program = f"import sys, rpa_testkit; print([name for name in {heavy!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
    program = f"import sys, rpa_testkit.plugin; print([name for name in {heavy[:5]!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
