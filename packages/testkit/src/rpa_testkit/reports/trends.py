"""What past runs say: for each scenario, driver and class of machine, how each figure wavers and what has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.reports.shifts import LEAST_BEFORE, Band, Shift, band, shifts
from rpa_testkit.reports.store import STORE, Run, read, record
from rpa_testkit.reports.words import STATUS_OF, count, seconds, short, size

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["FIGURES", "STORE", "Change", "Figure", "Line", "Trend", "Trends", "record", "table", "trends"]

_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure that is followed. `more_is_better` tells a gain from a loss."""

    name: str
    title: str
    unit: str
    more_is_better: bool

    def said(self, value: float) -> str:
        """The value with its unit."""
        match self.unit:
            case "s":
                return seconds(value)
            case "bytes":
                return size(value)
            case _:
                return f"{short(value)}{self.unit}"


FIGURES = (
    Figure(name="throughput", title="Throughput", unit="/s", more_is_better=True),
    Figure(name="p99", title="p99 latency", unit="s", more_is_better=False),
    Figure(name="recovery", title="Mean recovery", unit="s", more_is_better=False),
    Figure(name="peak_rss", title="Peak memory", unit="bytes", more_is_better=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed from one run to the next, in words, with the runs and versions on both sides."""

    what: str
    says: str
    worse: bool
    before: Run
    after: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure over the runs that have it; `band` is that of the runs before the last, since the last shift."""

    figure: Figure
    runs: tuple[Run, ...]
    values: tuple[float, ...]
    median: float
    band: Band | None
    shifts: tuple[Shift, ...]

    @property
    def outside(self) -> bool:
        """Whether the last run lies outside its band: worth a look, not yet a change."""
        return self.band is not None and not self.band.low <= self.values[-1] <= self.band.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All runs of one key, oldest first."""

    scenario: str
    driver: str
    machine: str
    runs: tuple[Run, ...]
    lines: tuple[Line, ...]
    changes: tuple[Change, ...]

    @property
    def last(self) -> Run:
        """The latest run."""
        return self.runs[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    """Every key's trend; `unreadable` lines of the store were passed over."""

    trends: tuple[Trend, ...]
    unreadable: int


def trends(store: Path) -> Trends:
    """Read a store (folder or file). One that is not there has no trends."""
    runs, unreadable = read(store)
    keys: defaultdict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        keys[run.key].append(run)
    return Trends(trends=tuple(_trend(found) for _, found in sorted(keys.items())), unreadable=unreadable)


def table(found: Trends) -> Group:
    """For a terminal: a table for each key (`!`: outside the noise), and below it what changed, the latest first."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = []
    for trend in found.trends:
        title = f"{trend.scenario} on {trend.driver} ({trend.machine})"
        title += f": {count(len(trend.runs), 'run')}, the last {STATUS_OF[trend.last.status]}"
        # As text: brackets in a name are no markup.
        made = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("Figure", "Last", "Median", "Noise"):
            made.add_column(name, justify="left" if name == "Figure" else "right")
        for line in trend.lines:
            said, noise = line.figure.said, line.band
            last = said(line.values[-1]) + (" !" if line.outside else "")
            within = f"{said(noise.low)} to {said(noise.high)}" if noise else "too few runs"
            made.add_row(line.figure.title, last, said(line.median), within)
        parts.append(made)
        told = [Text(f"{'worse' if change.worse else 'better'}: {change.says}") for change in reversed(trend.changes)]
        parts += [*(told or [Text("Nothing changed beyond the noise.")]), Text("")]
    return Group(*(parts or [Text("No run has been recorded yet.")]))


def _trend(runs: Sequence[Run]) -> Trend:
    scenario, driver, machine = runs[0].key
    lines = [line for figure in FIGURES if (line := _line(figure, runs))]
    changes = [*_verdicts(runs), *(change for line in lines for change in _shifts(line))]
    changes.sort(key=lambda change: change.after.started_at)
    return Trend(
        scenario=scenario, driver=driver, machine=machine, runs=tuple(runs), lines=tuple(lines), changes=tuple(changes)
    )


def _line(figure: Figure, runs: Sequence[Run]) -> Line | None:
    having = [run for run in runs if run.figures.get(figure.name, 0.0) > 0]
    if not having:
        return None
    values = [run.figures[figure.name] for run in having]
    found = shifts(values)
    since = values[found[-1].at if found else 0 :]
    reference = since[:-1] if len(since) > LEAST_BEFORE else since
    return Line(
        figure=figure,
        runs=tuple(having[-_SHOWN:]),
        values=tuple(values[-_SHOWN:]),
        median=sorted(since)[len(since) // 2],
        band=band(reference),
        shifts=tuple(_within(found, max(0, len(values) - _SHOWN))),
    )


def _within(found: Sequence[Shift], left_out: int) -> Iterator[Shift]:
    """Those among the runs shown, counted from the first of these."""
    for shift in found:
        if shift.at > left_out:
            at, known_at = shift.at - left_out, shift.known_at - left_out
            yield Shift(at=at, known_at=known_at, before=shift.before, after=shift.after)


def _shifts(line: Line) -> Iterator[Change]:
    figure = line.figure
    for shift in line.shifts:
        before, after = line.runs[shift.at - 1], line.runs[shift.at]
        in_a_row = shift.known_at - shift.at + 1
        direction = "rose" if shift.change > 0 else "fell"
        worse = (shift.change > 0) != figure.more_is_better
        yield Change(
            what=figure.name,
            says=f"{figure.title} {direction} by {abs(shift.change):.0%}, from {figure.said(shift.before)} to "
            f"{figure.said(shift.after)}, with run {after.run_id} (before: {before.run_id}); {in_a_row} runs in a row, "
            f"taken together, lie outside the noise. {_versions(before.versions, after.versions)}",
            worse=worse,
            before=before,
            after=after,
        )


def _verdicts(runs: Sequence[Run]) -> Iterator[Change]:
    for before, after in pairwise(runs):
        if before.status != after.status:
            failed = f" ({', '.join(after.failed)})" if after.failed else ""
            yield Change(
                what="verdict",
                says=f"The verdict went from {STATUS_OF[before.status]} (run {before.run_id}, seed {before.seed}) to "
                f"{STATUS_OF[after.status]}{failed} with run {after.run_id}, seed {after.seed}. "
                f"{_versions(before.versions, after.versions)}",
                worse=after.status != Status.PASS,
                before=before,
                after=after,
            )


def _versions(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    if not names:
        same = ", ".join(f"{name} {version}" for name, version in after.items())
        return f"Same versions on both sides: {same}." if same else "No versions were recorded."
    moved = ", ".join(f"{name} {before.get(name, 'none')} to {after.get(name, 'none')}" for name in names)
    return f"Versions that differ: {moved}."
