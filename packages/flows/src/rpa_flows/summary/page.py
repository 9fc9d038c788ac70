"""The tally as one HTML page: styles and pictures inside, nothing fetched, readable without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from rpa_flows.summary import charts
from rpa_flows.summary.tally import Group, Tally, axis, count_cells, figure, percent, score_cells, titled

# The page asks for nothing, and a hostile label that got through could not either.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(tally: Tally, path: Path) -> Path:
    """Write the page; returns its path."""
    path.write_text(render_page(tally), encoding="utf-8")
    return path


def render_page(tally: Tally) -> str:
    """The page as text."""
    book = tally.book
    style = resources.files("rpa_flows.summary").joinpath("page.css").read_text("utf-8")
    parts = [_positions(tally), _nearest(tally), _flags(tally)]
    first, *others = [part for part in parts if part] or [""]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{escape(book.title)}: results</title><style>{style}</style></head><body><main>",
            f"<header><h1>{escape(book.title)}</h1>",
            f'<p class="lead">{_lead(tally)}</p></header>',
            _figures(tally),
            f'<div class="charts">{first}<div class="stack">{"".join(others)}</div></div>',
            _segments(tally),
            "</main></body></html>",
        ]
    )


def _lead(tally: Tally) -> str:
    n = tally.total.n
    if not n:
        return "No response has been scored yet."
    return (
        f"{n:,} scored responses. Figures are unweighted; shares are of those who answered, "
        "scores and distances run from 0 to 1."
    )


def _figures(tally: Tally) -> str:
    total, book = tally.total, tally.book
    cells = {"Responses scored": f"{total.n:,}"}
    if book.summary.vote:
        for code, label in list(axis(book, book.summary.vote).items())[:3]:
            cells[f"{titled(book, book.summary.vote)}: {label}"] = percent(total.votes[code], total.votes.total())
    for name in book.scales:
        cells[f"{titled(book, name)}, mean"] = figure(total.means.get(name))
    cells["Flagged for a closer look"] = percent(total.flagged, total.n)
    inner = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in cells.items())
    return f'<dl class="figures">{inner}</dl>'


def _positions(tally: Tally) -> str:
    book = tally.book
    fields = book.summary.positions
    shared = axis(book, next(iter(fields.values()))) if fields else {}
    if not shared:
        return ""
    numeric = all(isinstance(value, int) for value in shared)
    series: dict[str, list[float]] = {}
    means: dict[str, tuple[float, str]] = {}
    for label, counts in tally.positions.items():
        answered = counts.total()
        series[label] = [counts[value] / answered if answered else 0.0 for value in shared]
        places = {value: place for place, value in enumerate(shared)}
        if answered:
            place = sum(places[value] * count for value, count in counts.items()) / answered
            means[label] = (place, f"{place + next(iter(shared)):.1f}" if numeric else f"{place + 1:.1f}")
    names = list(shared.values())
    ticks = [str(value) for value in shared]
    title = f"{' and '.join(filter(None, [', '.join(list(series)[:-1]), list(series)[-1]]))} on one scale"
    drawn = charts.histograms("positions", title, series, ticks, means, (names[0], names[-1]))
    rows = {
        f"{value} {name}" if str(value) != name else name: [percent(series[label][place], 1) for label in series]
        for place, (value, name) in enumerate(shared.items())
    }
    return _section(
        title, "Per cent of those who gave a position; the triangle is the mean.", drawn, list(series), rows
    )


def _nearest(tally: Tally) -> str:
    book = tally.book
    if not (book.nearest and book.summary.group and tally.groups):
        return ""
    name, nearest = next(iter(book.nearest.items()))
    labels = axis(book, book.summary.group)
    colours = {label: f"s{number}" for number, label in enumerate(nearest.positions, start=1)}
    first, *rest = nearest.positions  # the tie stands after the first: between two it belongs in the middle
    parts = {first: colours[first], nearest.tie: "tie", **{label: colours[label] for label in rest}}
    rows: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}
    for value, group in tally.groups.items():
        answered = group.nearest.total()
        rows[labels[value]] = {part: group.nearest[part] / answered if answered else 0.0 for part in parts}
        notes[labels[value]] = f"n {answered:,}"
    title = f"{titled(book, name)} by {titled(book, book.summary.group).lower()}"
    drawn = charts.stacked_bars("nearest", title, rows, parts, notes)
    numbers = {
        label: [notes[label].removeprefix("n "), *(percent(shares[part], 1) for part in parts)]
        for label, shares in rows.items()
    }
    legend = "".join(f'<li class="{colour}">{escape(part)}</li>' for part, colour in parts.items())
    return _section(
        title,
        f"Which position lies nearest to {titled(book, nearest.origin).lower()}.",
        f'<ul class="legend">{legend}</ul>{drawn}',
        ["n", *parts],
        numbers,
    )


def _flags(tally: Tally) -> str:
    if not tally.flags:
        return ""
    counts = {titled(tally.book, name): count for name, count in tally.flags.items()}
    drawn = charts.bars("flags", "Quality flags", counts, tally.total.n)
    rows = {label: [f"{count:,}", percent(count, tally.total.n)] for label, count in counts.items()}
    how = f"{tally.total.flagged:,} of {tally.total.n:,} responses raise at least one. Nothing is left out for it."
    return _section("Quality flags", how, drawn, ["responses", "share"], rows)


def _section(title: str, how: str, drawn: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A chart with what it shows, and the numbers behind it."""
    return (
        f'<section><h2>{escape(title)}</h2><p class="how">{escape(how)}</p>{drawn}'
        f"<details><summary>Numbers</summary><div>{_table(heads, rows)}</div></details></section>"
    )


def _table(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in ("", *heads))
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for label, cells in rows.items()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _segments(tally: Tally) -> str:
    if not tally.segments:
        return ""
    body = "".join(_segment_row(tally, label, group) for label, group in tally.segments.items())
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("Segment", *_cells(tally, tally.total)))
    return (
        '<section class="wide"><h2>Segments</h2><p class="how">The first rule of the codebook that a response meets '
        'gives its segment. Scores and distances are means.</p><table class="segments">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
        f"<tfoot>{_segment_row(tally, 'All responses', tally.total)}</tfoot></table></section>"
    )


def _segment_row(tally: Tally, label: str, group: Group) -> str:
    cells = "".join(
        f'<td data-name="{escape(name)}">{escape(value)}</td>' for name, value in _cells(tally, group).items()
    )
    return f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'


def _cells(tally: Tally, group: Group) -> dict[str, str]:
    return count_cells(tally, group) | score_cells(tally, group)
