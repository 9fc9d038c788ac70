"""Charts as SVG paths in a box of 1000 x 100 that the page stretches; strokes and text do not stretch with it.

Text stands beside the drawing as HTML, at places in per cent: so one drawing is sharp and readable at any width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from rpa_testkit.reports.families import family
from rpa_testkit.reports.model import Axis, FaultSeen, Points
from rpa_testkit.reports.words import count, seconds, size

WIDTH, HEIGHT = 1000, 100
_NARROWEST = 2.0
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MOST_TICKS = 8
_BYTES = tuple(float(factor << power) for power in (20, 30, 40) for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500))

Scale = Callable[[float], float]
"""From a value to a height, 0 to 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label at a place in per cent of the axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One path: its class gives colour and dashes, its name stands in the legend."""

    style: str
    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart over the run's time. `says` is its description for those who cannot see it."""

    id: str
    title: str
    note: str
    says: str
    ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    legend: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A fault's time on the axis, in the drawing's units."""

    x: float
    width: float
    style: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """All faults of one kind."""

    kind: str
    family: str
    note: str
    bars: tuple[Bar, ...]


def linear(top: float) -> Scale:
    """From 0 to `top`."""
    return lambda value: HEIGHT * value / top


def logarithmic(low: float, high: float) -> Scale:
    """By decades; what lies below `low` stands on the ground."""
    span = math.log10(high / low)
    return lambda value: HEIGHT * max(0.0, math.log10(max(value, low) / low)) / span


def curve(points: Points, scale: Scale) -> str:
    """A line through what was measured; it breaks where much more than the usual time lies between two values."""
    known = [(place, value) for place, value in enumerate(points) if value is not None]
    gaps = [later - place for (place, _), (later, _) in pairwise(known)]
    widest = 3 * median(gaps) if gaps else 0
    parts: list[str] = []
    last = -math.inf
    for place, value in known:
        parts.append(f"{'M' if place - last > widest else 'L'}{_x(place, points)} {_y(value, scale)}")
        last = place
    if len(known) == 1:
        parts.append("h1")
    return "".join(parts)


def area(points: Points, scale: Scale) -> str:
    """The surface below values that are there for every interval, as steps."""
    width = WIDTH / len(points)
    steps = "".join(
        f"L{place * width:.1f} {_y(value or 0.0, scale)}H{(place + 1) * width:.1f}"
        for place, value in enumerate(points)
    )
    return f"M0 {HEIGHT}{steps}V{HEIGHT}Z"


def top_of(series: Iterable[Points]) -> float:
    """The largest of all values; 1 if there is none above 0."""
    return max((value for points in series for value in points if value is not None), default=0.0) or 1.0


def ticks_up_to(top: float, label: Callable[[float], str], most: int = 4, units: Sequence[float] = ()) -> list[Tick]:
    """Round values from 0 to at most `top`, by 1, 2 or 5 of a power of ten, or by one of `units`."""
    power = 10 ** math.floor(math.log10(top / most))
    steps = units or [power * factor for factor in (1, 2, 5, 10)]
    step = next((step for step in steps if top / step <= most), steps[-1])
    return [Tick(at=100 * n * step / top, label=label(n * step)) for n in range(int(top / step) + 1)]


def decades(low: float, high: float) -> tuple[Tick, ...]:
    """A tick at every power of ten."""
    first, last = round(math.log10(low)), round(math.log10(high))
    return tuple(
        Tick(at=100 * (power - first) / (last - first), label=seconds(10.0**power)) for power in range(first, last + 1)
    )


def size_ticks(top: float) -> list[Tick]:
    """Bytes, by round numbers of MB or GB."""
    return ticks_up_to(top, size, 2, _BYTES)


def time_ticks(axis: Axis) -> list[Tick]:
    """Seconds since the run began, of longer runs minutes and seconds."""
    span = axis.end_s - axis.start_s
    step = next((step for step in _STEPS_S if span / step <= _MOST_TICKS), _STEPS_S[-1])
    first = math.ceil(axis.start_s / step)
    label = _moment if axis.end_s > 120 else lambda t: f"{t:g} s"
    places = range(first, int(axis.end_s / step) + 1)
    return [Tick(at=100 * axis.share(place * step), label=label(place * step)) for place in places]


def bar(fault: FaultSeen, axis: Axis) -> Bar:
    """From its injection to its healing."""
    start, end = fault.inject_s or 0.0, fault.end_s or 0.0
    left, right = max(0.0, WIDTH * axis.share(start)), WIDTH * axis.share(end)
    recovered = "" if fault.recovery_s is None else f"; recovered {seconds(fault.recovery_s)} after healing"
    return Bar(
        x=round(min(left, WIDTH - _NARROWEST), 1),
        width=round(max(right - left, _NARROWEST), 1),
        style=f"f-{family(fault)}" + ("" if fault.state == "verified" else " doubtful"),
        says=f"{fault.id} {fault.name}, {start:.1f} to {end:.1f} s, {fault.state}{recovered}",
    )


def lanes(faults: Sequence[FaultSeen], axis: Axis) -> list[Lane]:
    """A lane for each kind, families together."""
    kinds: dict[tuple[str, str], list[FaultSeen]] = {}
    for fault in sorted(faults, key=lambda fault: (family(fault), fault.kind)):
        kinds.setdefault((family(fault), fault.kind), []).append(fault)
    return [
        Lane(kind=kind, family=name, note=_note(found), bars=tuple(bar(fault, axis) for fault in found))
        for (name, kind), found in kinds.items()
    ]


def _note(faults: Sequence[FaultSeen]) -> str:
    doubtful = [fault for fault in faults if fault.state != "verified"]
    return f"\N{MULTIPLICATION SIGN}{len(faults)}" + (
        f", {count(len(doubtful), 'unverified', 'unverified')}" if doubtful else ""
    )


def _moment(t: float) -> str:
    minutes, rest = divmod(round(t), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _x(place: int, points: Points) -> str:
    return f"{WIDTH * (place + 0.5) / len(points):.1f}"


def _y(value: float, scale: Scale) -> str:
    return f"{HEIGHT - min(HEIGHT, scale(value)):.1f}"
