"""The measurement `peers`: speed and latency of every side that is installed, taking turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.peers import chart, latency
from benchmarks.peers.run import Run, race
from benchmarks.peers.side import WORKERS, Side
from benchmarks.peers.sides import SIDES
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import WaitTimeoutError

CHART = Path("reports/benchmark/peers.svg")
_TIMESTAMPS = {"track_commit_timestamp": "on"}


@dataclass(slots=True, kw_only=True)
class Taken:
    """What was measured of one side."""

    side: Side
    records: int
    runs: list[Run] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def void(self) -> Sequence[str]:
        """Why its figures do not count; empty if they do."""
        return [*self.failures, *(run.wrong for run in self.runs if run.wrong)]

    @property
    def speeds(self) -> Sequence[float]:
        """Records/s of every run; empty where one run makes them void."""
        return [] if self.void else [run.records_per_s for run in self.runs]


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
    rows = [_row(side.name, taken, gone) for side in SIDES]
    _draw(bench, rows)
    yield from figures_of(taken, gone)


def figures_of(taken: Sequence[Taken], gone: Mapping[str, str]) -> Iterator[Figure]:
    """The figures of what was taken; `gone` says of each missing side what it misses."""
    for name, missing in gone.items():
        yield Figure(name=f"{name}: missing", value=0, unit="runs", note=missing)
    for each in taken:
        tried, right = len(each.runs) + len(each.failures), sum(not run.wrong for run in each.runs)
        yield Figure(
            name=f"{each.side.name}: runs with exactly one result row per record",
            value=right,
            unit=f"of {tried}",
            bar=figures.at_least(tried),
            note=f"VOID: {each.void[0]}" if each.void else f"{each.records:,} records a run, {each.side.version()}",
        )
    counted = [each for each in taken if not each.void]
    yield from _speeds(counted)
    for share in (0.5, 0.95):
        yield from _latency(counted, share)


def _speeds(counted: Sequence[Taken]) -> Iterator[Figure]:
    speeds = {each.side.name: each.speeds for each in counted if each.speeds}
    for each in counted:
        yield figures.of(
            f"{each.side.name}, {WORKERS} workers",
            each.speeds,
            "records/s",
            note="gate open to the last row's commit",
            settings=[asdict(setting) for setting in each.side.settings],
            took_s=[round(run.took_s, 3) for run in each.runs],
        )
    ours = speeds.get("rpa")
    for name, theirs in speeds.items():
        if ours and name != "rpa":
            yield Figure(
                name=f"rpa / {name}",
                value=median(ours) / median(theirs),
                unit="x",
                samples=[a / b for a, b in zip(ours, theirs, strict=True)],
                note="the median speeds divided; samples are runs next to each other",
            )


def _latency(counted: Sequence[Taken], share: float) -> Iterator[Figure]:
    found = {each.side.name: figures.percentile(each.latency_ms, share) for each in counted if each.latency_ms}
    for each in counted:
        if each.side.name in found:
            yield Figure(
                name=f"{each.side.name}, one record, p{share * 100:.0f}",
                value=found[each.side.name],
                unit="ms",
                samples=each.latency_ms,
                note=f"{len(each.latency_ms)} records into an idle system",
            )
    for name, theirs in found.items():
        if "rpa" in found and name != "rpa":
            yield Figure(name=f"rpa / {name}, one record, p{share * 100:.0f}", value=found["rpa"] / theirs, unit="x")


def _race(bench: Bench, taken: Sequence[Taken]) -> None:
    with ExitStack() as stack:
        loaded = [(each, stack.enter_context(each.side.loaded(bench, each.records))) for each in taken]
        for number in range(bench.runs):
            for each, copies in loaded[:: -1 if number % 2 else 1]:
                try:
                    each.runs.append(race(each.side, copies, each.records))
                except (RuntimeError, WaitTimeoutError) as error:
                    each.failures.append(_first_line(error))
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
                    each.failures.append(_first_line(error))
                    continue
                each.latency_ms += samples
                bench.say(f"{each.side.name} single records, p50 {median(samples):.1f} ms")


def _last(each: Taken) -> str:
    if each.failures:
        return each.failures[-1]
    return each.runs[-1].wrong or f"{each.runs[-1].records_per_s:,.0f}/s"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _row(name: str, taken: Sequence[Taken], gone: Mapping[str, str]) -> chart.Row:
    if name in gone:
        return chart.Row(name=name, note=f"missing: {gone[name]}")
    each = next(each for each in taken if each.side.name == name)
    if each.void:
        return chart.Row(name=name, note=f"void: {each.void[0]}")
    p50, p95 = (figures.percentile(each.latency_ms, share) for share in (0.5, 0.95))
    return chart.Row(name=name, speeds=each.speeds, p50_ms=p50, p95_ms=p95)


def _draw(bench: Bench, rows: Sequence[chart.Row]) -> None:
    subtitle = "Tiny sizes: the figures mean nothing" if bench.quick else f"{bench.runs} runs of each, taking turns"
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(chart.svg(rows, subtitle=subtitle), encoding="utf-8")
    for line in chart.text(rows):
        bench.say(line)
    bench.say(f"drawn: {CHART}")
