"""The report as Markdown for a CI's summary page: the verdict first, and nothing that a log could smuggle in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.reports import words
from rpa_testkit.reports.model import Report

SIGNS = {
    Status.PASS: "\N{WHITE HEAVY CHECK MARK}",
    Status.FAIL: "\N{CROSS MARK}",
    Status.UNKNOWN: "\N{BLACK QUESTION MARK ORNAMENT}",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&$-])")
_EVIDENCE = 5


def markdown(report: Report) -> str:
    """The whole text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    header = report.header
    yield f"## {SIGNS[report.status]} {text(header.scenario)}: {words.STATUS[report.status]}"
    yield ""
    yield text(words.sentence(report))
    if report.cut_off:
        yield from ("", f"The history could not be read to its end: {text(report.cut_off)}")
    yield from ("", "| Checker | Verdict | |", "| --- | --- | --- |")
    for verdict in report.verdicts:
        sign = f"{SIGNS[verdict.status]} {words.STATUS[verdict.status]}"
        yield f"| {text(verdict.checker)} | {sign} | {text(words.shortened(verdict.says))} |"
    yield ""
    yield from _evidence(report)
    yield from _figures(report)
    if header.replay:
        yield from ("Replay:", "", *code(header.replay), "")
    yield "### Recommendations"
    yield ""
    for advice in report.advice:
        yield f"- {text(advice.advice)} {text(advice.seen)}{_lines_of(advice.seq)}"
    if not report.advice:
        yield "Nothing is advised: no rule found a cause in this run."
    if report.not_run:
        yield from ("", "### Not run", "")
        for fault in report.not_run:
            yield f"- {text(fault.name)}: {text(fault.why or 'no reason was given')}"


def _evidence(report: Report) -> Iterator[str]:
    for verdict in report.verdicts:
        if verdict.status is Status.PASS or not verdict.evidence:
            continue
        yield f"**{text(verdict.checker)}**" + (f", {verdict.found:,} found:" if verdict.found else ":")
        yield ""
        for evidence in verdict.evidence[:_EVIDENCE]:
            when = "" if evidence.t is None else f" at {evidence.t:.3f} s"
            yield f"- {text(words.shortened(evidence.says))}{when}{_lines_of(evidence.seq)}"
        yield ""


def _figures(report: Report) -> Iterator[str]:
    cells = {"Records/s": words.short(report.pace_rps)}
    if report.latency:
        latency = report.latency
        for name, value in (("p50", latency.p50_s), ("p99", latency.p99_s), ("slowest", latency.max_s)):
            cells[name] = words.seconds(value)
    recoveries = [fault.recovery_s for fault in report.ran if fault.recovery_s is not None]
    if recoveries:
        cells["Slowest recovery"] = words.seconds(max(recoveries))
    cells["Faults verified"] = f"{sum(f.state == 'verified' for f in report.ran)} of {len(report.ran)}"
    yield f"| {' | '.join(cells)} |"
    yield f"| {' | '.join('---:' for _ in cells)} |"
    yield f"| {' | '.join(map(text, cells.values()))} |"
    yield ""


def text(given: str) -> str:
    """Given as it is: nothing in it is markup, a mention or a table's edge, and it stays in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(given.split())).replace("://", ":\N{ZERO WIDTH SPACE}//")


def code(given: str) -> tuple[str, str, str]:
    """A block that its content cannot close."""
    longest = max((len(run) for run in re.findall("`+", given)), default=0)
    fence = "`" * max(3, longest + 1)
    return fence, " ".join(given.split()), fence


def _lines_of(seq: tuple[int, ...]) -> str:
    if not seq:
        return ""
    shown = ", ".join(map(str, seq[:8]))
    return f" (history {'line' if len(seq) == 1 else 'lines'} {shown}{', ...' if len(seq) > 8 else ''})"
