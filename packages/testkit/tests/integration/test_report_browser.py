"""The report's pages in a real browser: nothing is fetched, nothing overflows, nothing is said on the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.verdict import Evidence, Judgement, Verdict
from rpa_testkit.reports.build import build
from rpa_testkit.reports.trends import trends
from rpa_testkit.reports.trends_page import write_trends
from rpa_testkit.reports.write import write

from ..unit.support.report_histories import (  # noqa: TID252 - the unit tests' histories, and tests are no package
    Planted,
    failed,
    faults,
    judgement,
    passed,
    write_history,
)
from ..unit.support.report_runs import sample_runs, store_of  # noqa: TID252 - as above

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTHS = (1280, 400)
_SIZE_LIMIT = 5_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """An installed Chromium; none is downloaded."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is on PATH (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as driver:
        # Chromium refuses its sandbox to root, as which containers run tests.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = driver.chromium.launch(executable_path=path, args=options)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that failed, one that passed, and trends over forty."""
    folder = tmp_path_factory.mktemp("pages")
    planted = [
        *faults(12, 6, until_s=38),
        Planted(id=13, kind="clock-skew", target="worker-1", at_s=20, hold_s=3, end="not-run"),
        Planted(id=14, kind="bandwidth", target="worker-1->postgres", at_s=26, hold_s=3, end="unverified"),
    ]
    history = write_history(folder / "failed", records=20_000, pace=600, planted=planted, twice=[7001, 7002])
    verdicts: list[Verdict] = [
        failed(
            "no-duplicates",
            "2 records took effect twice: " + "an-error-without-a-space" * 12,
            Evidence(says="record 7001 <script>document.title = 'taken'</script>", t=12.0, seq=(40, 41)),
            Evidence(says="record 7002", t=12.2, seq=(42,)),
        ),
        *judge(history, ["recovery", "faults-verified"]).verdicts,
    ]
    write(build(history, Judgement(run_id="failed", verdicts=tuple(verdicts))), folder / "failed")
    history = write_history(folder / "passed", records=60_000, pace=800, planted=faults(40, 5, until_s=90))
    told = [{"id": n, "recovery_s": 0.4 + n % 7} for n in range(1, 41)]
    write(build(history, judgement(passed("no-lost"), passed("recovery", faults=told))), folder / "passed")
    return {
        "failed": folder / "failed" / "report.html",
        "passed": folder / "passed" / "report.html",
        "trends": write_trends(trends(store_of(folder, sample_runs())), folder),
    }


@contextmanager
def _opened(browser: Any, path: Path, width: int = 1280, **options: Any) -> Iterator[Any]:
    """The page, loaded; what it complains of or asks for fails the test."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **options)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.goto(path.as_uri(), wait_until="load")
        yield page
        assert complaints == []
        assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
    finally:
        page.close()


@pytest.mark.requirement("R3.5", "R9.7")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", _WIDTHS)
@pytest.mark.parametrize("name", ["failed", "passed", "trends"])
def test_pages_fit_and_are_silent(browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str) -> None:
    """No sideways scrolling of the page at either width, in light and dark, and every chart has a size."""
    with _opened(browser, pages[name], width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg[role=img]')].filter(s => s.checkVisibility())"
            ".map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
        )
        assert len(sizes) >= 8
        assert all(across > 200 and high >= 10 for across, high in sizes)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in ground[4:-1].split(",")) > 3 * 128
        assert light is (scheme == "light")


@pytest.mark.requirement("R3.5", "R9.7")
@pytest.mark.parametrize("width", _WIDTHS)
@pytest.mark.parametrize(("name", "word"), [("failed", "Failed"), ("passed", "Passed")])
def test_the_verdict_is_seen_without_scrolling(
    browser: Any, pages: dict[str, Path], name: str, word: str, width: int
) -> None:
    """Large, and above everything else."""
    with _opened(browser, pages[name], width) as page:
        heading = page.locator("h1")
        assert heading.inner_text() == word
        box = heading.bounding_box()
        assert box["y"] + box["height"] < 250
        assert box["height"] >= 32
        assert page.title() == f"exactly-once: {word.lower()}"


@pytest.mark.requirement("R3.5", "R9.7")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["failed", "passed", "trends"])
def test_text_has_contrast(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    """4.5 to 1 on what it stands on, for every piece of text (WCAG 2.1, 1.4.3)."""
    with _opened(browser, pages[name], color_scheme=scheme) as page:
        assert page.evaluate(_CONTRAST) == []


@pytest.mark.requirement("R3.5")
def test_the_page_says_everything_without_javascript(browser: Any, pages: dict[str, Path]) -> None:
    """The charts, the evidence and the recommendations are there; only the readout is not."""
    with _opened(browser, pages["failed"], java_script_enabled=False) as page:
        assert page.locator("figure svg path").count() > 20
        assert page.locator("table.history tr.cited").count() >= 2
        assert page.locator("ol.advice li").count() >= 2
        assert page.locator("button:visible").count() == 0


@pytest.mark.requirement("R3.5")
def test_pointing_at_a_chart_reads_it_out(browser: Any, pages: dict[str, Path]) -> None:
    """The moment, the figures there, and the faults that were going on."""
    with _opened(browser, pages["failed"]) as page:
        page.locator("figure.plot svg[role=img]").first.hover()
        text = page.locator("#readout").inner_text()
        assert "records/s" in text
        assert "p99" in text


@pytest.mark.slow
@pytest.mark.requirement("R3.5", "R9.7")
def test_a_million_operations_make_a_small_page(
    browser: Any, tmp_path: Path, counted: Callable[[int, int], int]
) -> None:
    """A tenth of them in the short form: under 5 MB, with every record in its figures, and drawn."""
    records = counted(100_000, 1_000_000)
    planted = faults(records // 5_000, 7, until_s=records / 2_560)
    history = write_history(tmp_path, records=records, pace=2_500, planted=planted)
    told = [{"id": fault.id, "recovery_s": 0.5 + fault.id % 9} for fault in planted]
    report = build(history, judgement(passed("no-lost"), passed("no-duplicates"), passed("recovery", faults=told)))
    assert report.counts.found == records
    write(report, tmp_path)
    path = tmp_path / "report.html"
    assert path.stat().st_size < _SIZE_LIMIT
    with _opened(browser, path) as page:
        assert page.locator("figure svg path").count() > 20
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


_CONTRAST = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const parse = text => numbers(text).length < 4 ? [...numbers(text), 1] : numbers(text);
  const level = part => { const c = part / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * level(r) + 0.7152 * level(g) + 0.0722 * level(b);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Set();
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || element.closest("svg, script") || !element.checkVisibility()) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const said = text.data.trim().slice(0, 40);
    if (ratio < 4.5) found.add(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${said}`);
  }
  return [...found];
})()
"""
