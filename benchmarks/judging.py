"""A run of a million operations: judging its history, and the report's page in a real browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures, histories
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.verdict import Judgement, Status
from rpa_testkit.history.reader import History
from rpa_testkit.reports.build import build
from rpa_testkit.reports.write import write

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_MB = 1_000_000
_FAULTS = 200
_OPENED_MS = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def measure(bench: Bench) -> Iterator[Figure]:
    """Every checker over every line; the page that is written from it; a headless Chromium from request to load."""
    records, faults = bench.size(1_000_000, 20_000), bench.size(_FAULTS, 6)
    folder = bench.folder / "judging"
    history = histories.write(folder, records, faults)
    judged = [_judged(history) for _ in range(bench.runs)]
    yield figures.of(
        "a history judged",
        [took_s for _, took_s in judged],
        "s",
        figures.at_most(10),
        note=f"{records:,} records, {faults} faults, {history.path.stat().st_size / _MB:,.0f} MB, every checker",
    )
    begun = time.monotonic()
    report = build(history, judged[0][0])
    if report.counts.found != records:
        raise RuntimeError(f"the report tells of {report.counts.found} records, not {records}")
    write(report, folder)
    page = folder / "report.html"
    note = f"with every report of the run written in {time.monotonic() - begun:.1f} s"
    yield figures.of("the report's page", [page.stat().st_size / _MB], "MB", figures.at_most(5), note=note)
    yield from _opened(bench, page)


def _judged(history: History) -> tuple[Judgement, float]:
    """The judgement, which must be that all is well, and how long it took."""
    begun = time.monotonic()
    judgement = judge(history)
    took_s = time.monotonic() - begun
    if judgement.status is not Status.PASS:
        wrong = [f"{one.checker}: {one.says}" for one in judgement.verdicts if one.status is not Status.PASS]
        raise RuntimeError("a history in which nothing went wrong did not pass: " + "; ".join(wrong))
    return judgement, took_s


def _opened(bench: Bench, page: Path) -> Iterator[Figure]:
    """Nothing where there is no browser, which is said."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        bench.say(
            f"the page is not opened: none of {', '.join(_BROWSERS)} is on PATH (Debian: apt-get install chromium)"
        )
        return
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        bench.say("the page is not opened: playwright, which drives the browser, is not installed")
        return
    with sync_playwright() as driver:
        # Chromium refuses its sandbox to root, as which containers run this.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = driver.chromium.launch(executable_path=browser, args=options)
        samples = []
        for _ in range(bench.runs):
            tab = launched.new_page()
            tab.goto(page.as_uri(), wait_until="load")
            samples.append(tab.evaluate(_OPENED_MS) / 1000)
            tab.close()
        version = launched.version
        launched.close()
    yield figures.of("the report's page opened", samples, "s", figures.at_most(3), note=f"headless Chromium {version}")
