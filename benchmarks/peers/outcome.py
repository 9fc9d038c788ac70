"""What the runs of a side come to: its figures, or why it has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.peers import chart
from benchmarks.peers.payload import WORKERS

if TYPE_CHECKING:
    from benchmarks.peers.side import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result rows at the end: how many, of how many records, with which numbers."""

    rows: int
    distinct: int
    lowest: int | None
    highest: int | None

    def wrong(self, records: int) -> str:
        """What is wrong in words; empty if each of the records 0 to `records` - 1 has exactly one row."""
        if self.rows == self.distinct == records and (self.lowest, self.highest) == (0, records - 1):
            return ""
        return f"{self.rows:,} result rows of {self.distinct:,} records, numbered {self.lowest} to {self.highest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: its speed, how long it took, and what was wrong with its rows."""

    records_per_s: float
    took_s: float
    wrong: str


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


def row(name: str, taken: Sequence[Taken], gone: Mapping[str, str]) -> chart.Row:
    """The chart's row of the side called `name`."""
    if name in gone:
        return chart.Row(name=name, note=f"missing: {gone[name]}")
    each = next(each for each in taken if each.side.name == name)
    if each.void:
        return chart.Row(name=name, note=f"void: {each.void[0]}")
    p50, p95 = (figures.percentile(each.latency_ms, share) for share in (0.5, 0.95))
    return chart.Row(name=name, speeds=each.speeds, p50_ms=p50, p95_ms=p95)
