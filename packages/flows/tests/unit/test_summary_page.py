"""The summary: right figures, and one page that stands alone and can be read by everyone."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.scoring import compile_scorer
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row
from rpa_flows.summary.page import render_page
from rpa_flows.summary.table import flag_table, segment_tables
from rpa_flows.summary.tally import Tally, percent, tally


def _tallied(book: Codebook, rows: list[Row]) -> Tally:
    validate, score = compile_validator(book), compile_scorer(book)
    checked = [validate(row) for row in rows]
    return tally(book, ((c.answers, score(c.answers)) for c in checked if not c.reasons))


@pytest.fixture(scope="module")
def real(anes96: Codebook, anes96_rows: list[Row]) -> Tally:
    """The 944 real responses, counted."""
    return _tallied(anes96, anes96_rows)


class _Parsed(HTMLParser):
    """Elements that are open at the end, and every attribute that could fetch something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "rect", "line", "path", "text") or tag == "text":
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "xlink:href", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "aria-labelledby":
                self.labelled += (value or "").split()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


@pytest.mark.requirement("R9.4")
def test_figures_are_those_of_the_columns(real: Tally, anes96_rows: list[Row]) -> None:
    """Counts, shares and means agree with what the raw columns give."""
    assert real.total.n == 944
    assert real.total.votes == {0: 551, 1: 393}
    assert real.flags["candidates_reversed"] == 117
    assert sum(group.n for group in real.segments.values()) == 944
    assert real.positions["Dole"][6] == 460
    strong = [row for row in anes96_rows if row["PID"] == "6"]
    gaps = [(abs(int(r["selfLR"]) - int(r["ClinLR"])), abs(int(r["selfLR"]) - int(r["DoleLR"]))) for r in strong]
    assert real.groups[6].nearest["Dole"] == sum(dole < clinton for clinton, dole in gaps)
    educations = [(int(row["educ"]) - 1) / 6 for row in anes96_rows]
    incomes = [(int(row["income"]) - 1) / 23 for row in anes96_rows]
    mean = (sum(educations) + sum(incomes)) / (2 * 944)
    assert real.total.means["resources"].value == pytest.approx(mean, abs=0.0005)


@pytest.mark.requirement("R9.4")
def test_the_tables_say_the_same(real: Tally) -> None:
    """The terminal's tables hold the segments, the votes and the flags."""
    out = io.StringIO()
    console = Console(file=out, width=80)
    console.print(*segment_tables(real), flag_table(real))
    text = out.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    assert "944 responses" in text
    assert re.search(r"Loyal Democrats\s+366\s+39 %\s+100 %\s+0 %", text)
    assert re.search(r"Clinton placed right of Dole\s+117\s+12 %", text)
    assert "…" not in text


@pytest.mark.requirement("R7.7")
def test_the_page_needs_nothing_else(real: Tally) -> None:
    """No script, no link, no address: it works offline and tells nobody that it was opened."""
    page = render_page(real)
    parsed = _Parsed(page)
    assert parsed.links == []
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert parsed.open == []


@pytest.mark.requirement("R9.4")
def test_every_chart_has_a_title_and_a_description(real: Tally) -> None:
    """Three charts, each named and described for people who do not see it, and every reference resolves."""
    page = render_page(real)
    parsed = _Parsed(page)
    assert parsed.tags.count("svg") == 3
    assert parsed.tags.count("desc") == 3
    assert set(parsed.labelled) <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "Strong Republican: Clinton" in page
    assert 'lang="en"' in page


@pytest.mark.requirement("R7.7")
def test_labels_cannot_break_out_of_the_page(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """A codebook with markup in every label gives a page without that markup."""
    hostile = "<script>alert('&\"')</script>"
    changed: dict[str, Any] = {
        "title": hostile,
        "segments": tuple(s.model_copy(update={"label": s.label + hostile}) for s in anes96.segments),
        "flags": {name: flag.model_copy(update={"title": hostile}) for name, flag in anes96.flags.items()},
        "scales": {name: scale.model_copy(update={"title": hostile}) for name, scale in anes96.scales.items()},
        "nearest": {
            name: n.model_copy(update={"title": hostile, "tie": hostile}) for name, n in anes96.nearest.items()
        },
        "summary": anes96.summary.model_copy(update={"positions": {hostile: "selfLR"}}),
    }
    page = render_page(_tallied(anes96.model_copy(update=changed), anes96_rows[:50]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.requirement("R9.4")
def test_a_survey_without_votes_and_one_without_responses_have_a_page(
    satisfaction: Codebook, satisfaction_rows: list[Row]
) -> None:
    """What a codebook does not have is left out, and nothing at all is a page too."""
    page = render_page(_tallied(satisfaction, satisfaction_rows))
    assert "Served and Expected on one scale" in page
    assert "At risk" in page
    empty = render_page(_tallied(satisfaction, []))
    assert "No response has been scored yet." in empty
    assert _Parsed(empty).open == []


@pytest.mark.requirement("R9.4")
def test_shares_are_not_rounded_away() -> None:
    """Something is never shown as nothing, and a share of nothing is not zero."""
    assert [percent(*pair).replace("\N{NO-BREAK SPACE}", " ") for pair in ((1, 3), (1, 1000), (0, 5), (0, 0))] == [
        "33 %",
        "<1 %",
        "0 %",
        "-",
    ]
