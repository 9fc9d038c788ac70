"""The measurement `peers`: speed and latency of every side that is installed, taking turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.peers import chart, latency
from benchmarks.peers.outcome import Taken, figures_of, row
from benchmarks.peers.run import race
from benchmarks.peers.sides import SIDES
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import WaitTimeoutError

CHART = Path("reports/benchmark/peers.svg")
_TIMESTAMPS = {"track_commit_timestamp": "on"}


def measure(bench: Bench) -> Iterator[Figure]:
    """Every side's figures, those of rpa first; a side that is missing or void has a line that says so."""
    gone = {side.name: missing for side in SIDES if (missing := side.missing())}
    taken = [
        Taken(side=side, records=bench.size(side.records, side.records // 100))
        for side in SIDES
        if side.name not in gone
    ]
    with EmbeddedPostgres(settings=_TIMESTAMPS) as server:
        own = replace(bench, server=server)
        _race(own, taken)
        _single(own, taken)
    rows = [row(side.name, taken, gone) for side in SIDES]
    _draw(bench, rows)
    if bench.quick and (void := [f"{each.side.name}: {each.void[0]}" for each in taken if each.void]):
        raise RuntimeError(f"it does not run: {'; '.join(void)}")
    yield from figures_of(taken, gone)


def _race(bench: Bench, taken: Sequence[Taken]) -> None:
    with ExitStack() as stack:
        loaded = [(each, stack.enter_context(each.side.loaded(bench, each.records))) for each in taken]
        for number in range(bench.runs):
            for each, copies in loaded[:: -1 if number % 2 else 1]:
                try:
                    each.runs.append(race(each.side, copies, each.records))
                except (RuntimeError, WaitTimeoutError) as error:
                    each.failures.append(_told(error))
                bench.say(f"{each.side.name} {_last(each)}")


def _single(bench: Bench, taken: Sequence[Taken]) -> None:
    number = bench.size(200, 5) // bench.runs
    with ExitStack() as stack:
        loaded = [(each, stack.enter_context(each.side.loaded(bench, latency.WARM_UP))) for each in taken]
        for turn in range(bench.runs):
            for each, copies in loaded[:: -1 if turn % 2 else 1]:
                try:
                    samples = latency.samples_ms(each.side, copies, number)
                except (RuntimeError, TimeoutError, WaitTimeoutError) as error:
                    each.failures.append(_told(error))
                    continue
                each.latency_ms += samples
                bench.say(f"{each.side.name} single records, p50 {median(samples):.1f} ms")


def _last(each: Taken) -> str:
    if each.failures:
        return each.failures[-1]
    return each.runs[-1].wrong or f"{each.runs[-1].records_per_s:,.0f}/s"


def _told(error: BaseException) -> str:
    """The first line and the last one: a worker's log ends with what ended it."""
    lines = [line for line in f"{error}".splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(dict.fromkeys([lines[0], lines[-1].strip()]))


def _draw(bench: Bench, rows: Sequence[chart.Row]) -> None:
    subtitle = "Tiny sizes: the figures mean nothing" if bench.quick else f"{bench.runs} runs of each, taking turns"
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(chart.svg(rows, subtitle=subtitle), encoding="utf-8")
    for line in chart.text(rows):
        bench.say(line)
    bench.say(f"drawn: {CHART}")
