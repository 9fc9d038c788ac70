"""The comparison drawn: a dot and its range for each side's speed, bars for the latency of single records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _ROW = 860, 150, 250, 34
_INK, _FAINT, _FIRST, _OTHER = "#1c2733", "#d5dbe1", "#0b6bcb", "#6b7a89"
_CELLS = 48
_EIGHTHS = "▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A side: its speeds in records/s, its single records' latency in ms, or in `note` why there are none."""

    name: str
    speeds: Sequence[float] = ()
    p50_ms: float | None = None
    p95_ms: float | None = None
    note: str = ""


def svg(rows: Sequence[Row], *, subtitle: str) -> str:
    """One self-contained picture. Speeds are on a logarithmic axis: they differ by orders of magnitude."""
    panel = len(rows) * _ROW
    top, second = 110, 110 + panel + 100
    height = second + panel + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif"'
        f' font-size="14" fill="{_INK}" role="img" aria-label="rpa and other queues, measured side by side">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 34, "One committed result row per record, 2 workers", size=18, weight=600),
        _text(20, 56, subtitle, colour=_OTHER),
        _text(20, top - 18, "Records per second (median and range; logarithmic)", weight=600),
        *_speeds(rows, top),
        _text(20, second - 18, "One record into an idle system, ms (bar: half are faster; line: 95 % are)", weight=600),
        *_latencies(rows, second),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def text(rows: Sequence[Row]) -> list[str]:
    """The speeds as lines of bars, on a linear scale."""
    longest = max((median(row.speeds) for row in rows if row.speeds), default=0.0)
    width = max((len(row.name) for row in rows), default=0)
    lines = []
    for row in rows:
        said = f"{bar(median(row.speeds) / longest)} {median(row.speeds):,.0f} records/s" if row.speeds else row.note
        lines.append(f"{row.name:<{width}} {said}")
    return lines


def bar(share: float) -> str:
    """A bar of `share` (0 to 1) of the full width; what is there at all is at least a sliver."""
    eighths = max(1, round(share * _CELLS * 8))
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[-1] * full + (_EIGHTHS[rest - 1] if rest else "")


def _speeds(rows: Sequence[Row], top: int) -> Iterator[str]:
    found = [speed for row in rows for speed in row.speeds]
    if not found:
        found = [1.0]
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    span = max(1, high - low)

    def place(speed: float) -> float:
        return _LEFT + (math.log10(speed) - low) / span * (_WIDTH - _LEFT - _RIGHT)

    bottom = top + len(rows) * _ROW
    for power in range(low, low + span + 1):
        yield _line(place(10**power), top, place(10**power), bottom, _FAINT, 1)
        yield _text(place(10**power), bottom + 18, f"{10**power:,.0f}", colour=_OTHER, anchor="middle")
    for row, y, colour in _placed(rows, top):
        yield _text(_LEFT - 12, y + 5, row.name, anchor="end", weight=600)
        if not row.speeds:
            yield _text(_LEFT + 6, y + 5, row.note, colour=_OTHER)
            continue
        middle = median(row.speeds)
        yield _line(place(min(row.speeds)), y, place(max(row.speeds)), y, colour, 3)
        yield f'<circle cx="{place(middle):.1f}" cy="{y}" r="6" fill="{colour}"/>'
        first = rows[0]
        against = f"  ({first.name} {median(first.speeds) / middle:,.0f}x)" if first.speeds and row is not first else ""
        yield _text(max(place(max(row.speeds)), place(middle)) + 14, y + 5, f"{middle:,.0f}{against}")


def _latencies(rows: Sequence[Row], top: int) -> Iterator[str]:
    longest = max((row.p95_ms for row in rows if row.p95_ms), default=1.0)

    def place(ms: float) -> float:
        return _LEFT + ms / longest * (_WIDTH - _LEFT - _RIGHT)

    for row, y, colour in _placed(rows, top):
        yield _text(_LEFT - 12, y + 5, row.name, anchor="end", weight=600)
        if row.p50_ms is None or row.p95_ms is None:
            yield _text(_LEFT + 6, y + 5, row.note, colour=_OTHER)
            continue
        yield f'<rect x="{_LEFT}" y="{y - 9}" width="{place(row.p50_ms) - _LEFT:.1f}" height="18" fill="{colour}"/>'
        yield _line(place(row.p50_ms), y, place(row.p95_ms), y, colour, 3)
        yield _text(place(row.p95_ms) + 14, y + 5, f"{row.p50_ms:.1f}, 95 %: {row.p95_ms:.1f}")
    yield _line(_LEFT, top, _LEFT, top + len(rows) * _ROW, _FAINT, 1)


def _placed(rows: Sequence[Row], top: int) -> Iterator[tuple[Row, int, str]]:
    for index, row in enumerate(rows):
        yield row, top + index * _ROW + _ROW // 2, _OTHER if index else _FIRST


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, said: str, *, size: int = 14, weight: int = 400, colour: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
        f' text-anchor="{anchor}">{escape(said)}</text>'
    )
