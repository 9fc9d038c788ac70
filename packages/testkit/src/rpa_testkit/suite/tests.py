"""ContainerTestSuite: what a container system must stand, as four tests."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rpa_testkit.checkers.verdict import Judgement
from rpa_testkit.checkers.verdict import Status as Verdict
from rpa_testkit.drivers.protocol import Driver
from rpa_testkit.history.entries import Kind, Phase
from rpa_testkit.history.reader import History
from rpa_testkit.runner.run import Run
from rpa_testkit.scenario.library import SCENARIOS, with_records
from rpa_testkit.scenario.model import Scenario, Topology
from rpa_testkit.suite import scenarios
from rpa_testkit.suite.measure import measure
from rpa_testkit.suite.results import (
    FaultToleranceResults,
    Minima,
    PerformanceResults,
    SecurityResults,
    Status,
    TestResults,
    overall,
)
from rpa_testkit.suite.runs import Runs, with_images
from rpa_testkit.suite.validator import STATUS, below, unmeasured
from rpa_testkit.warden.client import Warden

_FAULTS: Mapping[str, Sequence[str]] = {
    "process": ("processes", "network", "postgres"),
    "docker": ("processes", "network", "postgres", "resources"),
}


class ContainerTestSuite:
    """Runs scenarios on a driver and says what they show. A context manager: its end takes its warden with it.

    driver    "process", "docker", or a driver of one's own.
    seed      of every run; None draws one.
    reports   takes a folder a run.
    topology  is run instead of the scenarios' own; its workers' service must be called `worker`.
    images    by service, instead of the topology's.
    records   of each run, instead of the scenarios' own.
    """

    __test__ = False  # nothing for pytest to collect

    def __init__(
        self,
        driver: str | Driver = "process",
        *,
        seed: int | None = None,
        reports: Path | str = "reports/chaos",
        topology: Topology | None = None,
        images: Mapping[str, str] | None = None,
        records: int | None = None,
        warden: Warden | None = None,
        runs: Runs | None = None,
    ) -> None:
        self.driver = driver
        self.seed = secrets.randbelow(1_000_000) if seed is None else seed
        self.runs = runs or Runs(reports=Path(reports), warden=warden)
        self._topology = topology
        self._images = images or {}
        self._records = records

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what it holds."""
        self.runs.close()

    def run_distributed_processing_tests(self) -> TestResults:
        """Several workers over one ledger, undisturbed and killed: no record twice, none lost, and the work shared."""
        began = time.monotonic()
        done = [self._run(scenario) for scenario in (scenarios.DISTRIBUTED, scenarios.DISTRIBUTED_KILLS)]
        errors = [error for each in done for error in failures(each.judgement)]
        details: dict[str, Any] = {"seed": self.seed, "runs": [str(each.folder) for each in done], "shares": {}}
        for each in done:
            shares = measure(each.history).busy
            details["shares"][each.history.header.run_id] = shares
            if len(shares) < 2:
                who = ", ".join(shares) or "nobody"
                errors.append(f"{each.history.header.run_id}: only {who} did any work: nothing was distributed")
        return TestResults(
            test_name="distributed-processing",
            status="failed" if errors else "passed",
            duration=time.monotonic() - began,
            details=details,
            errors=tuple(errors),
            warnings=tuple(warning for each in done for warning in not_run(each.history).values()),
        )

    def run_performance_tests(self, minima: Minima | None = None) -> PerformanceResults:
        """Throughput of a saturated system and latency of single records; at least 100 records/s in any case."""
        began, wanted = time.monotonic(), minima or Minima()
        fast, single = self._run(scenarios.THROUGHPUT), self._run(scenarios.LATENCY)
        errors = [error for each in (fast, single) for error in failures(each.judgement)]
        pace, took = measure(fast.history), measure(single.history)
        # A run whose records come one by one has the pace of their coming, not its own; a queue's latency is the
        # queue's length.
        judged = replace(pace, latency_s=took.latency_s)
        errors += [*below(judged, wanted), *unmeasured(judged, wanted)]
        return PerformanceResults(
            status="failed" if errors else "passed",
            duration=time.monotonic() - began,
            metrics=replace(pace.metrics, average_latency=took.metrics.average_latency),
            latency_s=took.latency_s,
            cpu_s=pace.cpu_s,
            peak_rss_bytes=pace.peak_rss_bytes,
            minima=wanted,
            errors=tuple(errors),
            runs=(fast.folder, single.folder),
        )

    def run_fault_tolerance_tests(self) -> FaultToleranceResults:
        """Processes, the network and PostgreSQL break; with containers, resources run out too."""
        began = time.monotonic()
        done = [self._run(SCENARIOS[name]) for name in _FAULTS.get(self._name, _FAULTS["process"])]
        results = tuple(_tolerated(each) for each in done)
        faults, missing, recovery = Counter[str](), dict[str, str](), dict[str, float]()
        for each in done:
            faults.update(verified(each.history))
            missing |= not_run(each.history)
            for kind, took_s in _recoveries(each).items():
                recovery[kind] = max(took_s, recovery.get(kind, 0.0))
        return FaultToleranceResults(
            status=overall(result.status for result in results),
            duration=time.monotonic() - began,
            scenarios=results,
            faults=dict(sorted(faults.items())),
            not_run=missing,
            recovery_s=recovery,
            runs=tuple(each.folder for each in done),
        )

    def run_security_tests(self) -> SecurityResults:
        """What workers give away and let in; with containers, also how they are confined."""
        from rpa_testkit.suite.security import check_security

        topology = with_images(self._topology or Topology(), self._images)
        return check_security(self.runs, self.driver, topology, seed=self.seed)

    @property
    def _name(self) -> str:
        return self.driver if isinstance(self.driver, str) else self.driver.name

    def _run(self, scenario: Scenario) -> Run:
        topology = with_images(self._topology or scenario.topology, self._images)
        scenario = replace(scenario, topology=topology)
        scenario = with_fewer(scenario, self._records) if self._records else scenario
        return self.runs.run(scenario, self.driver, seed=self.seed, spec=scenarios.spec_of(scenario))


def with_fewer(scenario: Scenario, records: int) -> Scenario:
    """The same with another number of records; with fewer, each takes as much longer: faults must still meet work."""
    longer = max(1.0, scenario.workload.records / records)
    scaled = with_records(scenario, records)
    return replace(scaled, workload=replace(scaled.workload, work_ms=scaled.workload.work_ms * longer))


def failures(judgement: Judgement) -> list[str]:
    """What did not pass, in words: what is unknown has not passed."""
    return [
        f"{judgement.run_id}: {verdict.checker} is {verdict.status}: {verdict.says}"
        for verdict in judgement.verdicts
        if verdict.status is not Verdict.PASS
    ]


def verified(history: History) -> dict[str, int]:
    """Faults that were seen to take effect, by kind."""
    lines = (entry for entry in history if entry.kind == Kind.FAULT and entry.op == Phase.VERIFIED)
    return dict(Counter(entry.value["kind"] for entry in lines))


def not_run(history: History) -> dict[str, str]:
    """Kinds of faults that could not be injected, with the reason."""
    lines = (entry for entry in history if entry.kind == Kind.FAULT and entry.op == Phase.NOT_RUN)
    return {entry.value["kind"]: f"{entry.value['kind']} was not run: {entry.value['why']}" for entry in lines}


def _tolerated(done: Run) -> TestResults:
    """A scenario of whose faults none could be injected has shown nothing: it is skipped, not passed."""
    faults, missing = verified(done.history), not_run(done.history)
    status: Status = STATUS[done.judgement.status]
    errors = failures(done.judgement)
    if done.schedule.events and not faults and len(missing) == len({event.kind for event in done.schedule.events}):
        status, errors = "skipped", list(missing.values())
    return TestResults(
        test_name=done.history.header.scenario,
        status=status,
        duration=_ended(done.history),
        details={"run": str(done.folder), "faults": faults, "seed": done.schedule.seed},
        errors=tuple(errors),
        warnings=tuple(missing.values()) if status != "skipped" else (),
    )


def _ended(history: History) -> float:
    return max((entry.t for entry in history if entry.kind == Kind.MARK), default=0.0)


def _recoveries(done: Run) -> dict[str, float]:
    """The longest of each kind, as the checker measured it."""
    longest: dict[str, float] = {}
    for verdict in done.judgement.verdicts:
        if verdict.checker != "recovery":
            continue
        for fault in verdict.figures.get("faults", ()):
            if (took_s := fault.get("recovery_s")) is not None:
                longest[fault["kind"]] = max(took_s, longest.get(fault["kind"], 0.0))
    return longest
