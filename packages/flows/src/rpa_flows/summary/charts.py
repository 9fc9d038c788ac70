"""Charts as inline SVG: drawn on a narrow canvas, so that they stay readable where the page is narrow.

Colours are classes (`s0`, `s1`, ...) that the page's style sheet gives for light and dark. Every chart is an image with
a title and a description; the page puts the numbers beside it as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from rpa_flows.summary.tally import percent

_WIDTH = 420
_TOP = 6


def histograms(
    chart_id: str,
    title: str,
    series: Mapping[str, Sequence[float]],
    ticks: Sequence[str],
    means: Mapping[str, tuple[float, str]],
    ends: tuple[str, str],
) -> str:
    """One row of columns per series over a shared axis: shares as heights, a mark at each mean (place, text)."""
    row, head, left = 184, 24, 4
    step = (_WIDTH - 2 * left) / max(1, len(ticks))
    tallest = max((share for shares in series.values() for share in shares), default=0) or 1
    body = []
    for number, (label, shares) in enumerate(series.items()):
        top = _TOP + number * row
        base = top + row - 16
        scale = (row - head - 30) / tallest
        body.append(f'<text class="name" x="{left}" y="{top + 13}">{escape(label)}</text>')
        if label in means:
            place_of_mean, text = means[label]
            x = left + (place_of_mean + 0.5) * step
            body.append(f'<path class="s{number}" d="M{x:.1f} {base + 2:.1f}l5 8h-10z"/>')
            body.append(f'<text class="note" x="{_WIDTH - left}" y="{top + 13}" text-anchor="end">mean {text}</text>')
        for place, share in enumerate(shares):
            height = share * scale
            x = left + place * step
            body.append(
                f'<rect class="s{number}" x="{x + 3:.1f}" y="{base - height:.1f}" width="{step - 6:.1f}" '
                f'height="{max(height, 0.5):.1f}" rx="2"/>'
            )
            if share > 0:
                body.append(
                    f'<text class="value" x="{x + step / 2:.1f}" y="{base - height - 4:.1f}" '
                    f'text-anchor="middle">{percent(share, 1).rstrip("%").rstrip()}</text>'
                )
        body.append(f'<line class="axis" x1="{left}" x2="{_WIDTH - left}" y1="{base + 0.5}" y2="{base + 0.5}"/>')
    bottom = _TOP + len(series) * row
    for place, tick in enumerate(ticks):
        x = left + (place + 0.5) * step
        body.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">{escape(tick)}</text>')
    body.append(f'<text class="note" x="{left}" y="{bottom + 29}">{escape(ends[0])}</text>')
    body.append(f'<text class="note" x="{_WIDTH - left}" y="{bottom + 29}" text-anchor="end">{escape(ends[1])}</text>')
    described = "; ".join(
        f"{label}: " + ", ".join(f"{tick} {percent(share, 1)}" for tick, share in zip(ticks, shares, strict=True))
        for label, shares in series.items()
    )
    return _svg(chart_id, title, described, bottom + 36, body)


def stacked_bars(
    chart_id: str,
    title: str,
    rows: Mapping[str, Mapping[str, float]],
    parts: Mapping[str, str],
    notes: Mapping[str, str],
) -> str:
    """One bar of full length per row, divided by the shares of `parts` (name to colour class)."""
    height, body = 46, []
    for number, (label, shares) in enumerate(rows.items()):
        top = _TOP + number * height
        body.append(f'<text class="name" x="0" y="{top + 12}">{escape(label)}</text>')
        body.append(f'<text class="note" x="{_WIDTH}" y="{top + 12}" text-anchor="end">{escape(notes[label])}</text>')
        x = 0.0
        for part, colour in parts.items():
            width = shares.get(part, 0.0) * _WIDTH
            if width <= 0:
                continue
            body.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{top + 18}" width="{max(width - 1, 0.5):.1f}" height="20"/>'
            )
            if width > 40:
                body.append(
                    f'<text class="inside" x="{x + width / 2:.1f}" y="{top + 32}" text-anchor="middle">'
                    f"{percent(shares[part], 1)}</text>"
                )
            x += width
        if x == 0:
            body.append(f'<rect class="none" x="0" y="{top + 18}" width="{_WIDTH}" height="20"/>')
    described = "; ".join(
        f"{label}: " + ", ".join(f"{part} {percent(shares.get(part, 0), 1)}" for part in parts)
        for label, shares in rows.items()
    )
    return _svg(chart_id, title, described, _TOP + len(rows) * height, body)


def bars(chart_id: str, title: str, counts: Mapping[str, int], whole: int) -> str:
    """One bar per name, its length the count, with count and share of `whole` written out."""
    height, body = 44, []
    longest = max(counts.values(), default=0) or 1
    for number, (label, count) in enumerate(counts.items()):
        top = _TOP + number * height
        body.append(f'<text class="name" x="0" y="{top + 12}">{escape(label)}</text>')
        body.append(
            f'<text class="note" x="{_WIDTH}" y="{top + 12}" text-anchor="end">'
            f"{count:,} ({percent(count, whole)})</text>"
        )
        body.append(
            f'<rect class="flag" x="0" y="{top + 18}" width="{_WIDTH * count / longest:.1f}" height="14" rx="2"/>'
        )
    described = "; ".join(f"{label}: {count} ({percent(count, whole)})" for label, count in counts.items())
    return _svg(chart_id, title, described, _TOP + len(counts) * height, body)


def _svg(chart_id: str, title: str, description: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-labelledby="{chart_id}-t {chart_id}-d">'
        f'<title id="{chart_id}-t">{escape(title)}</title><desc id="{chart_id}-d">{escape(description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _bare(share: float) -> str:
    """A share in per cent where there is no room for the sign."""
    return percent(share, 1).rstrip("%").rstrip()
