"""The names that come with the package, and the values that tests give back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import rpa_testkit
from rpa_testkit import SecurityResults, TestEnvironment, TestReport, TestResults, TestSuite, ValidationResult
from rpa_testkit.scenario.library import SCENARIOS, find
from rpa_testkit.scenario.model import Service, Topology
from rpa_testkit.scenario.schedule import compile_schedule
from rpa_testkit.suite import scenarios
from rpa_testkit.suite.chaos import Chaos, Settings
from rpa_testkit.suite.results import Status, overall
from rpa_testkit.suite.runs import strikes_postgres, with_images
from rpa_testkit.suite.tests import with_fewer


@pytest.mark.requirement("D1")
def test_every_public_name_is_there() -> None:
    """Sorted, each from its room; another name is an AttributeError."""
    assert rpa_testkit.__all__ == sorted(rpa_testkit.__all__)
    assert all(getattr(rpa_testkit, name).__name__ == name for name in rpa_testkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'TestNothing'"):
        rpa_testkit.__getattr__("TestNothing")


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("name", [name for name in rpa_testkit.__all__ if name.startswith("Test")])
def test_pytest_does_not_collect_them(name: str) -> None:
    """Though their names begin with Test."""
    assert getattr(rpa_testkit, name).__test__ is False


@pytest.mark.requirement("D1")
@pytest.mark.parametrize(
    "kind", [TestResults, TestReport, TestSuite, TestEnvironment, SecurityResults, ValidationResult]
)
def test_results_are_frozen(kind: Any) -> None:
    """What was found does not change afterwards."""
    assert kind.__dataclass_params__.frozen
    assert not dataclasses.fields(kind)[0].name.startswith("_")


@pytest.mark.requirement("R9.7")
@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["passed", "skipped"], "passed"),
        (["passed", "failed"], "failed"),
        (["skipped", "failed"], "failed"),
        (["skipped", "skipped"], "skipped"),
        ([], "skipped"),
    ],
)
def test_what_was_skipped_has_not_passed(statuses: list[Status], expected: Status) -> None:
    """Nothing at all has not passed either."""
    assert overall(statuses) == expected


@pytest.mark.requirement("R3.5")
@pytest.mark.parametrize("name", ["DISTRIBUTED", "DISTRIBUTED_KILLS", "THROUGHPUT", "LATENCY"])
def test_the_suites_scenarios_are_found_again(name: str) -> None:
    """So that a run of theirs can be replayed; a scenario of the library keeps its name."""
    scenario = getattr(scenarios, name)
    assert find(scenarios.spec_of(scenario)) is scenario
    assert scenarios.spec_of(SCENARIOS["network"]) == "network"


@pytest.mark.requirement("R3.3")
def test_schedules_that_strike_postgres_are_told_from_others() -> None:
    """They get a server of their own."""
    struck = {name: strikes_postgres(compile_schedule(SCENARIOS[name], 1)) for name in SCENARIOS}
    assert struck["postgres"]
    assert struck["everything"]
    assert not any(struck[name] for name in ("quiet", "processes", "network", "zombies"))


@pytest.mark.requirement("R9.5")
def test_images_are_replaced_by_the_services_names() -> None:
    """A name that no service has is an error that names those there are."""
    topology = Topology(services=(Service(), Service(name="other", image="b")))
    images = [service.image for service in with_images(topology, {"other": "c"}).services]
    assert images == ["rpa-base:development", "c"]
    with pytest.raises(LookupError, match="no service is called others; there are worker, other"):
        with_images(topology, {"others": "c"})


@pytest.mark.requirement("R3.3")
def test_fewer_records_are_as_much_work() -> None:
    """So that faults still meet some; more records are more work."""
    fewer, more = (with_fewer(scenarios.DISTRIBUTED_KILLS, number).workload for number in (500, 3_000))
    assert (fewer.records, fewer.work_ms) == (500, 60.0)
    assert (more.records, more.work_ms) == (3_000, 20.0)


@pytest.mark.requirement("R3.3")
def test_a_test_that_may_not_run_on_a_driver_is_skipped(tmp_path: Path) -> None:
    """By its marker, or by its scenario; the reason says which it may."""
    chaos = Chaos(_settings(tmp_path, drivers=("docker",)), None)  # type: ignore[arg-type]  # nothing is started
    with pytest.raises(pytest.skip.Exception, match=r"not for the driver process .* but for docker"):
        chaos.driver(None, ("process", "docker"))
    chaos = Chaos(_settings(tmp_path), None)  # type: ignore[arg-type]  # as above
    with pytest.raises(pytest.skip.Exception, match="but for docker"):
        chaos.driver(None, ("docker",))
    assert chaos.driver(None, ("process", "docker")) == "process"


@pytest.mark.requirement("R3.5")
def test_a_run_that_did_not_end_is_told_with_its_seed(tmp_path: Path) -> None:
    """With the command that begins it again, safe for a shell."""
    chaos = Chaos(_settings(tmp_path), None)  # type: ignore[arg-type]  # as above
    chaos.asked.append(("network", "process", 77))
    assert chaos.section().splitlines() == [
        "network on process, seed 77: did not come to its end",
        "from the seed: pytest 'tests/test_a.py::test_b[x y]' --chaos-driver process --chaos-seed 77",
    ]


@pytest.mark.requirement("R3.5")
def test_only_a_failed_test_keeps_its_folder(tmp_path: Path) -> None:
    """Or one that is to be kept; others' folders stay."""
    for failed, keep, stays in ((True, False, True), (False, True, True), (False, False, False)):
        folder = tmp_path / "reports" / "chaos" / f"test-{failed}-{keep}"
        (folder / "run").mkdir(parents=True)
        Chaos(_settings(folder, keep=keep), None).close(failed=failed)  # type: ignore[arg-type]  # as above
        assert folder.exists() is stays
    assert tmp_path.exists()


def _settings(reports: Path, *, drivers: tuple[str, ...] = (), keep: bool = False) -> Settings:
    nodeid = "tests/test_a.py::test_b[x y]"
    return Settings(nodeid=nodeid, seed=7, driver="process", reports=reports, drivers=drivers, keep=keep)
