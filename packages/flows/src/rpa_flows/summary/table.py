"""The tally as rich tables, for the terminal."""

from __future__ import annotations

from rich.table import Table

from rpa_flows.summary.tally import Tally, percent, segment_cells, titled


def segment_table(tally: Tally) -> Table:
    """One row a segment, the whole survey last: n, votes, mean scores and distances, flagged responses."""
    table = Table(title=f"{tally.book.title}: {tally.total.n:,} responses", show_footer=True, title_justify="left")
    table.add_column("Segment", footer="All", no_wrap=True)
    for heading, value in segment_cells(tally, tally.total).items():
        table.add_column(heading, justify="right", footer=value)
    for label, group in tally.segments.items():
        table.add_row(label, *segment_cells(tally, group).values())
    return table


def flag_table(tally: Tally) -> Table:
    """One row a quality flag: how many responses raise it."""
    table = Table(title="Quality flags", title_justify="left")
    table.add_column("Flag")
    table.add_column("Responses", justify="right")
    table.add_column("Share", justify="right")
    for name, count in tally.flags.items():
        table.add_row(titled(tally.book, name), f"{count:,}", percent(count, tally.total.n))
    return table
