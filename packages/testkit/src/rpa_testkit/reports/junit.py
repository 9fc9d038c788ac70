"""JUnit XML as GitHub's and Jenkins's readers take it: a test case per checker, one per fault that was not run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rpa_testkit.checkers.verdict import Status, Verdict
from rpa_testkit.reports import words
from rpa_testkit.reports.model import Excerpt, FaultSeen, Report

# XML 1.0 cannot hold these, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> bytes:
    """The document, in UTF-8."""
    header = report.header
    suite = Element("testsuite", {"name": _clean(f"{header.scenario} ({header.driver})")})
    _properties(suite, report)
    classname = f"chaos.{header.scenario}.{header.driver}"
    for verdict in report.verdicts:
        excerpt = next((each for each in report.excerpts if each.checker == verdict.checker), None)
        _checker(suite, classname, verdict, excerpt)
    if report.cut_off or not report.verdicts:
        why = report.cut_off or "no checker has judged this run"
        SubElement(_case(suite, classname, "history"), "error", {"message": _clean(why), "type": "unknown"}).text = why
    for fault in report.not_run:
        _not_run(suite, classname, fault)
    SubElement(suite, "system-out").text = _clean(f"{words.sentence(report)}\nreplay: {header.replay}\n")
    cases = list(suite.iter("testcase"))
    totals = {
        "tests": len(cases),
        "failures": _having(cases, "failure"),
        "errors": _having(cases, "error"),
        "skipped": _having(cases, "skipped"),
    }
    for name, number in totals.items():
        suite.set(name, str(number))
    suite.set("time", f"{report.duration_s:.3f}")
    if began := _timestamp(header.started_at):
        suite.set("timestamp", began)
    root = Element("testsuites", {"name": "rpa-testkit", **{name: str(number) for name, number in totals.items()}})
    root.set("time", f"{report.duration_s:.3f}")
    root.append(suite)
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _properties(suite: Element, report: Report) -> None:
    header = report.header
    found = {
        "seed": header.seed,
        "run_id": header.run_id,
        "driver": header.driver,
        "scenario": header.scenario,
        "replay": header.replay,
        "verdict": report.status.value,
        "records": report.counts.found,
        "lost": report.counts.lost,
        "twice": report.counts.twice,
        "faults": len(report.ran),
        **{f"version.{name}": version for name, version in header.versions.items()},
    }
    properties = SubElement(suite, "properties")
    for name, value in found.items():
        SubElement(properties, "property", {"name": _clean(name), "value": _clean(str(value))})


def _checker(suite: Element, classname: str, verdict: Verdict, excerpt: Excerpt | None) -> None:
    case = _case(suite, classname, verdict.checker)
    if verdict.status is Status.PASS:
        return
    tag = "failure" if verdict.status is Status.FAIL else "error"
    element = SubElement(case, tag, {"message": _clean(verdict.says), "type": verdict.status.value})
    element.text = _clean("\n".join(_evidence(verdict, excerpt)))


def _evidence(verdict: Verdict, excerpt: Excerpt | None) -> Iterable[str]:
    yield verdict.says + (f" ({verdict.found:,} found)" if verdict.found else "")
    for evidence in verdict.evidence:
        when = "" if evidence.t is None else f" at {evidence.t:.3f} s"
        lines = f" [lines {', '.join(map(str, evidence.seq))}]" if evidence.seq else ""
        yield f"- {evidence.says}{when}{lines}"
    if excerpt and excerpt.lines:
        yield "history around the first:"
        for line in excerpt.lines:
            yield f"{'>' if line.cited else ' '} {line.seq:>8} {line.t:>10.3f} {line.actor:<12} {line.what} {line.text}"


def _not_run(suite: Element, classname: str, fault: FaultSeen) -> None:
    case = _case(suite, classname, f"fault {fault.id}: {fault.name}")
    SubElement(case, "skipped", {"message": _clean(fault.why or "not run")})


def _case(suite: Element, classname: str, name: str) -> Element:
    return SubElement(suite, "testcase", {"classname": _clean(classname), "name": _clean(name), "time": "0.000"})


def _having(cases: Iterable[Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)


def _timestamp(started_at: str) -> str | None:
    """Without an offset, in UTC: the readers' schema knows no other form."""
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        return None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%S")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
