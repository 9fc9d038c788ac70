"""The forms a report is written in: what they hold, and what hostile text cannot do to them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from rpa_testkit.checkers.verdict import Evidence, Status, Verdict
from rpa_testkit.reports.build import build
from rpa_testkit.reports.html import html
from rpa_testkit.reports.junit import junit
from rpa_testkit.reports.markdown import code, markdown
from rpa_testkit.reports.model import Report
from rpa_testkit.reports.write import replace as replace_file
from rpa_testkit.reports.write import write

from .support.report_histories import Planted, failed, faults, header, judgement, passed, write_history

HOSTILE = "</script></style><img src=x onerror=alert(1)>\x00\x1b[31m ]]> | `x` [a](http://b) \ud800 {{ 7*7 }}"


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """A run that failed, with one fault not run and hostile text wherever text comes from outside."""
    planted = [
        *faults(6, 1, until_s=18),
        Planted(id=9, kind="clock-skew", target="worker-1", at_s=4, hold_s=1, end="not-run"),
    ]
    head = header(replay="rpa-testkit replay runs/1 --note '<b>`x`'", versions={"<i>core": "0.1.0<b>"})
    history = write_history(tmp_path, records=10_000, planted=planted, head=head)
    built = build(
        history,
        judgement(
            failed("no-duplicates", HOSTILE, Evidence(says=HOSTILE, t=3.0, seq=(12, 13)), found=3),
            Verdict(checker="leases", status=Status.UNKNOWN, says="not looked at"),
            passed("no-lost"),
        ),
    )
    lines = tuple(replace(line, text=HOSTILE) for line in built.excerpts[0].lines)
    return replace(built, excerpts=(replace(built.excerpts[0], lines=lines),))


class _Page(HTMLParser):
    """Elements with their attributes, and whether all that were opened were closed."""

    _VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.mark.requirement("R3.5", "R9.7")
def test_junit_has_a_case_per_checker_and_per_fault_not_run(report: Report) -> None:
    """With the counts, attributes and properties that readers look for."""
    root = ElementTree.fromstring(junit(report))
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [
        "no-duplicates",
        "leases",
        "no-lost",
        "fault 9: clock-skew on worker-1",
    ]
    assert [[child.tag for child in case] for case in cases] == [["failure"], ["error"], [], ["skipped"]]
    for element in (root, suite):
        found = [element.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert found == ["4", "1", "1", "1"]
    assert suite.get("timestamp") == "2026-03-02T03:14:15"
    assert (suite[0].tag, suite[-1].tag) == ("properties", "system-out")
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["seed"] == "4711"
    assert properties["run_id"] == "exactly-once-7f3a"
    assert properties["driver"] == "process"
    assert properties["replay"] == "rpa-testkit replay runs/1 --note '<b>`x`'"
    failure = cases[0].find("failure")
    assert failure is not None
    assert "lines 12, 13" in (failure.text or "")
    assert "onerror=alert(1)" in (failure.get("message") or "")


@pytest.mark.requirement("R3.5")
def test_junit_without_a_verdict_is_an_error(report: Report) -> None:
    """A suite of no cases would count as passed."""
    root = ElementTree.fromstring(junit(replace(report, verdicts=())))
    assert (root.get("tests"), root.get("errors")) == ("2", "1")


@pytest.mark.requirement("R3.5", "R9.7")
def test_markdown_has_the_verdict_first_and_no_markup_from_outside(report: Report) -> None:
    """Headings, the table and the lists are ours; the rest is escaped."""
    lines = markdown(report).splitlines()
    assert lines[0].endswith("exactly\\-once: failed")
    rows = [line for line in lines if line.startswith("| no\\-duplicates")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4
    assert "rpa-testkit replay runs/1 --note '<b>`x`'" in lines
    outside_of_code = "\n".join(line for line in lines if not line.startswith("rpa-testkit"))
    assert not re.search(r"(?<!\\)<", outside_of_code)
    assert "### Recommendations" in lines


@pytest.mark.requirement("R3.5")
def test_a_code_block_outlasts_the_fences_within() -> None:
    """The fence is longer than any run of backticks in it."""
    assert code("a ```` b") == ("`````", "a ```` b", "`````")


@pytest.mark.requirement("R3.5", "R9.7")
def test_the_page_is_well_formed_and_fetches_nothing(report: Report) -> None:
    """No address, no external file; ids are there once; the policy names the one script by its hash."""
    text = html(report)
    page = _Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes in page.elements:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")]
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert "@import" not in text
    assert "url(" not in text
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in page.elements
        if attributes.get("http-equiv") and tag == "meta"
    ]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "{{ 7*7 }}" in text
    titled = [tag for tag, attributes in page.elements if attributes.get("role") == "img"]
    assert len(titled) >= 8
    assert "Replay" in text


@pytest.mark.requirement("R3.5", "R9.7")
def test_the_page_says_things_in_order(report: Report) -> None:
    """The verdict first, then how to see it again, what happened, and the rest."""
    text = html(report)
    headings = [
        re.sub("<.*?>", "", each).split(" ")[0].strip() for each in re.findall(r"<h[12].*?>(.*?)</h[12]>", text)
    ]
    assert headings == [
        "Failed",
        "Replay",
        "What",
        "Recovery",
        "Evidence",
        "Resource",
        "Recommendations",
        "Schedule",
        "Run",
    ]


@pytest.mark.requirement("R3.5")
def test_a_run_in_which_nothing_happened_has_a_page_too(tmp_path: Path) -> None:
    """No record, no fault, no sample, no verdict."""
    report = build(write_history(tmp_path, records=0), judgement(passed("no-lost")))
    assert "there is nothing to draw" in html(report)
    assert "Nothing is advised" in markdown(report)


@pytest.mark.requirement("R3.5", "R9.7")
def test_all_forms_are_written_and_replaced_whole(report: Report, tmp_path: Path) -> None:
    """Nothing else is left in the folder, and the JSON is the model."""
    folder = tmp_path / "run"
    written = [write(report, folder) for _ in range(2)][1]
    assert [path.name for path in written] == ["report.json", "junit.xml", "report.md", "report.html"]
    assert sorted(folder.iterdir()) == sorted(written)
    data = orjson.loads((folder / "report.json").read_bytes())
    assert data["status"] == "fail"
    assert data["counts"]["found"] == 10_000
    assert data["header"]["seed"] == 4711


@pytest.mark.requirement("R3.5")
def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    """And what was written beside it is gone."""
    target = tmp_path / "report.md"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OSError):
        replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (target / "kept").exists()
