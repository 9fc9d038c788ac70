"""Trends as a page of small charts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rpa_testkit.reports import words
from rpa_testkit.reports.drawing import HEIGHT, WIDTH, Curve, Plot, linear, size_ticks, ticks_up_to, top_of
from rpa_testkit.reports.trends import Line, Trends
from rpa_testkit.reports.write import replace

_HEADROOM = 1.08


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendPlot:
    """A figure's chart: dots for runs, the band as a rectangle (place and height from the top), shifts as places."""

    plot: Plot
    band: tuple[float, float, float] | None
    dots: tuple[tuple[float, float, str, str], ...]
    shifts: tuple[float, ...]
    last: str
    about: str


def write_trends(found: Trends, folder: Path) -> Path:
    """Write trends.html; returns its path."""
    return replace(folder / "trends.html", trends_html(found).encode(errors="replace"))


def trends_html(found: Trends) -> str:
    """The page, as self-contained as a report's."""
    from rpa_testkit.reports.html import page

    drawn = [
        (trend, [_plot(f"t{number}-{line.figure.name}", line) for line in trend.lines])
        for number, trend in enumerate(found.trends)
    ]
    worse = sum(change.worse for trend in found.trends for change in trend.changes)
    return page("trends.html.j2", title="Trends over runs", trends=drawn, found=found, worse=worse)


def _plot(chart: str, line: Line) -> TrendPlot:
    figure, values = line.figure, line.values
    top = max(top_of([values]), line.band.high if line.band else 0.0) * _HEADROOM
    scale = linear(top)
    places = [WIDTH * (number + 0.5) / len(values) for number in range(len(values))]
    points = [(round(x, 1), round(HEIGHT - scale(value), 1)) for x, value in zip(places, values, strict=True)]
    last, median = figure.said(values[-1]), figure.said(line.median)
    said = f"{figure.title} of {words.count(len(values), 'run')}: last {last}, median {median}"
    start = line.shifts[-1].at if line.shifts else 0
    area = None
    if line.band:
        low, high = scale(line.band.low), min(float(HEIGHT), scale(line.band.high))
        area = (round(WIDTH * start / len(values), 1), round(HEIGHT - high, 1), round(max(high - low, 0.5), 1))
    return TrendPlot(
        plot=Plot(
            id=chart,
            title=figure.title,
            note="",
            says=said,
            ticks=tuple(size_ticks(top) if figure.unit == "bytes" else ticks_up_to(top, figure.said, 2)),
            curves=(Curve(style="p50", name=figure.title, path="M" + "L".join(f"{x} {y}" for x, y in points)),),
        ),
        band=area,
        dots=tuple(
            (x, y, run.status, f"{run.run_id}: {figure.said(value)}, {words.STATUS_OF[run.status]}")
            for (x, y), run, value in zip(points, line.runs, values, strict=True)
        ),
        shifts=tuple(round(WIDTH * shift.at / len(values), 1) for shift in line.shifts),
        last=last,
        about=_about(line),
    )


def _about(line: Line) -> str:
    figure = line.figure
    if line.band is None:
        return f"median {figure.said(line.median)}; no band before 5 runs"
    where = "outside" if line.outside else "within"
    return f"{where} {figure.said(line.band.low)} to {figure.said(line.band.high)}, median {figure.said(line.median)}"
