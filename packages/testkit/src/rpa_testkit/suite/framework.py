"""AutomatedTestFramework: an environment for suites, the suites in it, its end whatever happened, the reports."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rpa_core.errors import UsageError
from rpa_testkit.scenario.model import Topology
from rpa_testkit.suite.results import Status, Suite, TestEnvironment, TestReport, TestResults, TestSuite, overall
from rpa_testkit.suite.runs import Runs, with_images
from rpa_testkit.suite.tests import ContainerTestSuite
from rpa_testkit.suite.validator import report_of

_KEY = "rpa.key"
_BUILD = "invoke build.selective"


class AutomatedTestFramework:
    """new -> set up -> (suites, reports) -> cleaned up. A context manager: entering sets up, leaving cleans up.

    driver    "process" or "docker".
    topology  whose services are tested; its images must come from the two-stage build.
    images    by service, instead of the topology's.
    """

    def __init__(
        self,
        driver: str = "process",
        *,
        seed: int | None = None,
        reports: Path | str = "reports/chaos",
        topology: Topology | None = None,
        images: Mapping[str, str] | None = None,
    ) -> None:
        self.driver = driver
        self.seed = secrets.randbelow(1_000_000) if seed is None else seed
        self.reports = Path(reports)
        self._topology = with_images(topology or Topology(), images or {})
        self._given = None if topology is None and not images else self._topology
        self._runs: Runs | None = None
        self._reported: dict[Path, TestReport] = {}

    def __enter__(self) -> Self:
        self.setup_test_environment()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup_test_environment()

    def setup_test_environment(self) -> TestEnvironment:
        """Start the warden and look for the images; UsageError names those that are missing, and how to build them."""
        if self.driver not in ("process", "docker"):
            raise UsageError(f"no driver is called {self.driver!r}; there are process and docker")
        images = built_images(self._topology) if self.driver == "docker" else {}
        self._runs = self._runs or Runs(reports=self.reports)
        return TestEnvironment(
            driver=self.driver,
            seed=self.seed,
            reports=self.reports,
            warden=self._runs.warden.address,
            images=images,
        )

    def run_test_suite(self, suite: TestSuite | None = None) -> TestResults:
        """Run its tests one after the other; one that fails, or cannot be run, does not keep the others from it."""
        suite, runs = suite or TestSuite(), self._ready()
        began = time.monotonic()
        tests = ContainerTestSuite(
            self.driver,
            seed=self.seed,
            reports=self.reports,
            topology=self._given,
            records=suite.records,
            runs=runs,
        )
        made: Mapping[Suite, Callable[[], Any]] = {
            "distributed": tests.run_distributed_processing_tests,
            "performance": lambda: tests.run_performance_tests(suite.minima),
            "faults": tests.run_fault_tolerance_tests,
            "security": tests.run_security_tests,
        }
        results: dict[str, Any] = {}
        statuses: list[Status] = []
        errors: list[str] = []
        for name in suite.tests:
            try:
                result = made[name]()
            except Exception as error:  # noqa: BLE001 - the others are run all the same
                statuses.append("failed")
                errors.append(f"{name} could not be run: {type(error).__name__}: {error}")
                continue
            results[name] = result
            statuses.append(result.status)
            if result.status != "passed":
                errors += [f"{name}: {says}" for says in _said(result)]
        return TestResults(
            test_name=suite.name,
            status=overall(statuses),
            duration=time.monotonic() - began,
            details={"seed": self.seed, "driver": self.driver, "results": results},
            errors=tuple(errors),
        )

    def cleanup_test_environment(self) -> None:
        """End the warden, which removes whatever of the runs is still there; safe to call twice and after a failure."""
        if self._runs is not None:
            runs, self._runs = self._runs, None
            self._keep(runs)
            runs.close()

    def generate_test_reports(self) -> list[TestReport]:
        """junit.xml, report.json, report.md and report.html of each run, in its folder; also after the cleanup."""
        if self._runs is not None:
            self._keep(self._runs)
        return list(self._reported.values())

    def _keep(self, runs: Runs) -> None:
        for done in runs.done:
            if done.folder not in self._reported:
                self._reported[done.folder] = report_of(done.history)

    def _ready(self) -> Runs:
        if self._runs is None:
            raise UsageError("there is no environment: call setup_test_environment first, or use `with`")
        return self._runs


def built_images(topology: Topology) -> dict[str, str]:
    """The key of each image of the topology, which the two-stage build gives it; UsageError for one without."""
    import docker

    from rpa_testkit.drivers.container.engine import Engine

    Engine.connect("").close()  # its errors say what to do
    wanted = sorted({service.image for service in topology.services})
    found: dict[str, str] = {}
    missing: list[str] = []
    client = docker.from_env()
    try:
        for name in wanted:
            try:
                key = (client.images.get(name).labels or {}).get(_KEY)
            except docker.errors.ImageNotFound:
                missing.append(f"{name} is not there")
                continue
            if key:
                found[name] = key
            else:
                missing.append(f"{name} carries no label {_KEY}: it does not come from the two-stage build")
    finally:
        client.close()
    if missing:
        raise UsageError(f"{'; '.join(missing)}. Build the images first: {_BUILD}")
    return found


def _said(result: Any) -> list[str]:
    """Why it did not pass, from whatever kind of result it is."""
    said = list(getattr(result, "errors", ()))
    for part in (*getattr(result, "scenarios", ()), *getattr(result, "checks", ())):
        if part.status == "failed":
            said += [f"{part.test_name}: {error}" for error in part.errors]
    return said
