"""The tally as rich tables, for a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table

from rpa_flows.summary.tally import Tally, count_cells, percent, score_cells, titled


def segment_tables(tally: Tally) -> tuple[Table, Table]:
    """One row a segment, the whole survey last: n, votes and flagged responses; then mean scores and distances."""
    title = f"{tally.book.title}: {tally.total.n:,} responses"
    tables = []
    for heading, cells in ((title, count_cells), ("Means", score_cells)):
        table = _table(heading, footer=True)
        table.add_column("Segment", footer="All", no_wrap=True)
        for name, value in cells(tally, tally.total).items():
            table.add_column(name, justify="right", footer=value, min_width=max(map(len, name.split()), default=0))
        for label, group in tally.segments.items():
            table.add_row(label, *cells(tally, group).values())
        tables.append(table)
    return tables[0], tables[1]


def flag_table(tally: Tally) -> Table:
    """One row a quality flag: how many responses raise it."""
    table = _table("Quality flags")
    table.add_column("Flag")
    table.add_column("Responses", justify="right")
    table.add_column("Share", justify="right")
    for name, count in tally.flags.items():
        table.add_row(titled(tally.book, name), f"{count:,}", percent(count, tally.total.n))
    return table


def _table(title: str, *, footer: bool = False) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_footer=footer,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
