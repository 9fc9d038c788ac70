"""TestValidator: what the histories of runs say, judged anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.verdict import Status as Verdict
from rpa_testkit.history.entries import Kind
from rpa_testkit.history.reader import History, HistoryError
from rpa_testkit.suite.measure import Measured, measure
from rpa_testkit.suite.results import (
    LEAST_RATE,
    NOTHING_MEASURED,
    ErrorHandlingValidation,
    Minima,
    PerformanceValidation,
    Status,
    TestReport,
    ValidationResult,
)

if TYPE_CHECKING:
    from rpa_testkit.reports.model import Report

Given = History | Path
STATUS: dict[Verdict, Status] = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.UNKNOWN: "failed"}
_ONCE = ("no-duplicates", "no-phantoms")
_ASKED = {"reject": "rejected", "retry": "result", "": "result"}
"""What becomes of a record of the probe by what it asks for."""


class TestValidator:
    """Judges one run or several together, by their histories or folders alone: old runs can be judged again."""

    __test__ = False  # nothing for pytest to collect

    def __init__(self, runs: Given | Sequence[Given]) -> None:
        """HistoryError for a folder without a history."""
        given: Iterable[Given] = [runs] if isinstance(runs, History | Path) else runs
        self.histories = tuple(History.open(run) if isinstance(run, Path) else run for run in given)
        if not self.histories:
            raise ValueError("there is no run to judge: give a history, a run's folder, or several of them")

    def validate_no_duplicate_processing(self) -> ValidationResult:
        """No record has two results, effects or dead letters, and none came from nowhere."""
        violations: list[str] = []
        unknown: list[str] = []
        figures: dict[str, Any] = {"records": 0, "duplicates": 0}
        for history in self.histories:
            for verdict in judge(history, _ONCE).verdicts:
                said = [each.says for each in verdict.evidence] or [verdict.says]
                if verdict.status is Verdict.FAIL:
                    violations += [_of(history, says) for says in said]
                elif verdict.status is Verdict.UNKNOWN:
                    unknown.append(_of(history, f"{verdict.checker}: {verdict.says}"))
                if verdict.checker == _ONCE[0]:
                    figures["records"] += verdict.figures.get("records", 0)
                    figures["duplicates"] += verdict.found
        if not figures["records"]:
            unknown.append("no record was processed: that none was processed twice says nothing")
        return ValidationResult(
            name="no-duplicate-processing",
            valid=not violations and not unknown,
            violations=tuple(violations),
            unknown=tuple(unknown),
            figures=figures,
        )

    def validate_performance_metrics(self, minima: Minima | None = None) -> PerformanceValidation:
        """Each run reaches `minima`, and 100 records/s in any case. The slowest run's figures are given."""
        wanted = minima or Minima()
        violations: list[str] = []
        unknown: list[str] = []
        slowest: Measured | None = None
        for history in self.histories:
            try:
                measured = measure(history)
            except HistoryError as error:
                unknown.append(_of(history, str(error)))
                continue
            if not measured.metrics.records_processed:
                unknown.append(_of(history, "no record was processed: there is no pace to judge"))
                continue
            violations += [_of(history, says) for says in below(measured, wanted)]
            unknown += [_of(history, says) for says in unmeasured(measured, wanted)]
            if slowest is None or measured.metrics.processing_rate < slowest.metrics.processing_rate:
                slowest = measured
        return PerformanceValidation(
            name="performance",
            valid=not violations and not unknown,
            violations=tuple(violations),
            unknown=tuple(unknown),
            metrics=slowest.metrics if slowest else NOTHING_MEASURED,
            latency_s=slowest.latency_s if slowest else {},
            minima=wanted,
        )

    def validate_error_handling(self) -> ErrorHandlingValidation:
        """Records that were to be rejected are dead letters with reasons, all others have results; nobody just ended.

        What a record was to become is known of the probe's payloads alone; of another flow, that dead letters have
        reasons.
        """
        violations: list[str] = []
        unknown: list[str] = []
        count = Counter[str]()
        for history in self.histories:
            try:
                _errors(history, violations, unknown, count)
            except HistoryError as error:
                unknown.append(_of(history, str(error)))
        return ErrorHandlingValidation(
            name="error-handling",
            valid=not violations and not unknown,
            violations=tuple(violations),
            unknown=tuple(unknown),
            rejected=count["rejected"],
            retried=count["retried"],
            dead=count["dead"],
            exits=count["exits"],
        )

    def generate_test_report(self) -> TestReport:
        """Of the run, with its report written into its folder; of several, the first that did not pass."""
        reports = self.generate_test_reports()
        return next((report for report in reports if report.status != "passed"), reports[0])

    def generate_test_reports(self) -> tuple[TestReport, ...]:
        """One for each run."""
        return tuple(report_of(history) for history in self.histories)


def below(measured: Measured, minima: Minima) -> list[str]:
    """What is not reached, in words."""
    metrics, least = measured.metrics, max(LEAST_RATE, minima.rate)
    said = []
    if metrics.processing_rate < least:
        said.append(f"{metrics.processing_rate:.1f} records/s; at least {least:g} are asked for")
    for name, most in (("p50", minima.p50_s), ("p95", minima.p95_s), ("p99", minima.p99_s)):
        took = measured.latency_s.get(name)
        if most is not None and took is not None and took > most:
            said.append(f"{name} latency {took:.3f} s; at most {most:g} s is asked for")
    if metrics.error_rate > minima.error_rate:
        said.append(f"{metrics.error_rate:.2%} of the records have no result; at most {minima.error_rate:.2%} may")
    if minima.efficiency is not None and 0 < metrics.resource_efficiency < minima.efficiency:
        said.append(f"{metrics.resource_efficiency:.0f} records per CPU second; {minima.efficiency:g} are asked for")
    peak = max((measured.peak_rss_bytes.get(name, 0) for name in measured.busy), default=0)
    if minima.peak_rss_bytes is not None and peak > minima.peak_rss_bytes:
        said.append(f"a worker held {peak} bytes; at most {minima.peak_rss_bytes} are allowed")
    return said


def unmeasured(measured: Measured, minima: Minima) -> list[str]:
    """What was asked for and could not be measured."""
    said = []
    if minima.efficiency is not None and not measured.metrics.resource_efficiency:
        said.append("the workers' CPU time was not measured: the run was too short for two samples")
    if minima.peak_rss_bytes is not None and not any(name in measured.peak_rss_bytes for name in measured.busy):
        said.append("the workers' memory was not measured: the run was too short for a sample")
    return said


def report_of(history: History) -> TestReport:
    """Judge a run, write its report into its folder, and say what there is."""
    from rpa_testkit.reports.build import build
    from rpa_testkit.reports.write import write

    report = build(history, judge(history))
    files = tuple(write(report, history.path.parent))
    return _summary(history, report, files)


def _summary(history: History, report: Report, files: tuple[Path, ...]) -> TestReport:
    header = history.header
    try:
        metrics = measure(history).metrics
    except HistoryError:
        metrics = NOTHING_MEASURED
    return TestReport(
        run_id=header.run_id,
        scenario=header.scenario,
        driver=header.driver,
        seed=header.seed,
        status=STATUS[report.status],
        verdicts={verdict.checker: f"{verdict.status}: {verdict.says}" for verdict in report.verdicts},
        metrics=metrics,
        recommendations=tuple(advice.advice for advice in report.advice),
        replay=header.replay,
        files=files,
    )


def _errors(history: History, violations: list[str], unknown: list[str], count: Counter[str]) -> None:
    probed = history.header.workload.get("flow") == "probe" and not history.header.workload.get("payload")
    seen = False
    for entry in history:
        if entry.kind == Kind.NODE and entry.op == "exited" and not entry.value.get("expected"):
            count["exits"] += 1
            violations.append(_of(history, f"{entry.key} ended by itself with {entry.value.get('code')}"))
        elif entry.kind == Kind.OBSERVE and entry.op == "ended":
            seen = True
            asked, (came, number, mute, shown) = entry.key, entry.value
            count["rejected"] += number if asked == "reject" else 0
            count["retried"] += number if asked == "retry" else 0
            count["dead"] += number if came not in ("result", "open") else 0
            if mute:
                violations.append(_of(history, f"{mute} dead letters of kind {came} have no reason"))
            if came == "open":
                violations.append(_of(history, f"{number} records have no outcome: {_listed(shown, number)}"))
            elif probed and came != _ASKED.get(asked):
                wish = f"asked to {asked}" if asked else "asked for nothing"
                violations.append(
                    _of(history, f"{number} records that {wish} ended as {came}: {_listed(shown, number)}")
                )
    if not seen:
        unknown.append(_of(history, "how its records ended was not looked at"))


def _listed(shown: Sequence[str | None], number: int) -> str:
    more = number - len(shown)
    return ", ".join(str(key) for key in shown) + (f" and {more} more" if more > 0 else "")


def _of(history: History, says: str) -> str:
    return f"{history.header.run_id}: {says}"
