"""What the suite's tests give back: plain values, ready for JSON (`dataclasses.asdict`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]
Suite = Literal["distributed", "performance", "faults", "security"]
LEAST_RATE = 100.0
"""Records/s that any machine must reach."""


def overall(statuses: Iterable[Status]) -> Status:
    """Failed if one failed; passed if one passed; skipped where all were, or where there was none."""
    seen = set(statuses)
    if "failed" in seen:
        return "failed"
    return "passed" if "passed" in seen else "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResults:
    """One test. `duration` is in seconds; `errors` are why it failed, or why it was skipped."""

    __test__ = False  # nothing for pytest to collect

    test_name: str
    status: Status
    duration: float
    details: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceMetrics:
    """A run's pace.

    processing_rate      records with an outcome per second, from the first enqueued to the last outcome.
    average_latency      seconds from a record's enqueueing to its outcome.
    error_rate           share of the records that ended without a result, 0 to 1.
    resource_efficiency  records per second of the workers' CPU time; 0 where it was not measured.
    """

    records_processed: int
    processing_rate: float
    average_latency: float
    error_rate: float
    resource_efficiency: float


NOTHING_MEASURED = PerformanceMetrics(
    records_processed=0, processing_rate=0.0, average_latency=0.0, error_rate=0.0, resource_efficiency=0.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minima:
    """What a performance test is judged against. `rate` below 100 records/s counts as 100; None is not judged.

    p50_s, p95_s, p99_s  the longest latency allowed at that percentile.
    error_rate           the largest share of records without a result.
    efficiency           the fewest records per second of the workers' CPU time.
    peak_rss_bytes       the most memory that a worker may hold.
    """

    rate: float = LEAST_RATE
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    error_rate: float = 0.0
    efficiency: float | None = None
    peak_rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceResults:
    """Throughput of a saturated run; `latency_s` by percentile (p50, p95, p99, max), of a paced one.

    cpu_s and peak_rss_bytes are by node. `runs` are the folders.
    """

    status: Status
    duration: float
    metrics: PerformanceMetrics
    latency_s: Mapping[str, float]
    cpu_s: Mapping[str, float]
    peak_rss_bytes: Mapping[str, int]
    minima: Minima
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    runs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultToleranceResults:
    """One result a scenario. `faults` counts by kind those whose effect was verified, `not_run` those that were not.

    recovery_s is the longest time from a healing until work went on, by kind of fault.
    """

    status: Status
    duration: float
    scenarios: tuple[TestResults, ...]
    faults: Mapping[str, int]
    not_run: Mapping[str, str]
    recovery_s: Mapping[str, float]
    runs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityResults:
    """One result a check; a check that cannot be made on a driver is skipped, with the reason."""

    status: Status
    duration: float
    checks: tuple[TestResults, ...]
    runs: tuple[Path, ...] = ()

    def check(self, name: str) -> TestResults:
        """The check of that name; LookupError if there is none."""
        for check in self.checks:
            if check.test_name == name:
                return check
        raise LookupError(f"no check is called {name!r}; there are {', '.join(each.test_name for each in self.checks)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Whether something holds. `violations` says what does not, `unknown` what could not be told: both fail."""

    name: str
    valid: bool
    violations: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceValidation(ValidationResult):
    """With what was measured and what was asked for."""

    metrics: PerformanceMetrics
    latency_s: Mapping[str, float]
    minima: Minima


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHandlingValidation(ValidationResult):
    """`rejected` and `retried` records were meant to be so; `dead` ended as dead letters; `exits` nobody caused."""

    rejected: int
    retried: int
    dead: int
    exits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """One run, for people: its verdicts by checker, figures, advice and the files that show it all."""

    __test__ = False  # nothing for pytest to collect

    run_id: str
    scenario: str
    driver: str
    seed: int
    status: Status
    verdicts: Mapping[str, str]
    metrics: PerformanceMetrics
    recommendations: tuple[str, ...]
    replay: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSuite:
    """What to run: `tests` in this order; `records` of each run (None: the scenarios' own), `minima` of performance."""

    __test__ = False  # nothing for pytest to collect

    name: str = "all"
    tests: tuple[Suite, ...] = ("distributed", "performance", "faults", "security")
    records: int | None = None
    minima: Minima = field(default_factory=Minima)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestEnvironment:
    """Where suites run: the driver, its images and their keys, the folder of the runs, the warden's address."""

    __test__ = False  # nothing for pytest to collect

    driver: str
    seed: int
    reports: Path
    warden: str
    images: Mapping[str, str] = field(default_factory=dict)
