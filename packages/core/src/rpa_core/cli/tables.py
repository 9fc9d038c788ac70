"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rpa_core.observability.printable import printable

_UNBOUNDED = 10_000  # columns of what is no terminal: a file or a pipe gets whole cells


def show(first: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print rows by name, a column for each field; numbers to the right."""
    fields = list(next(iter(rows.values())))
    cells = [
        (name, *(f"{row[field]:,}" if isinstance(row[field], int) else row[field] for field in fields))
        for name, row in rows.items()
    ]
    show_cells((first, *(field.replace("_", " ") for field in fields)), cells)


def show_cells(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, texts: int = 1) -> None:
    """Print rows of cells, escaped; the first `texts` columns are folded, the others are numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(headings):
        is_text = number < texts
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: a name may look like markup
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED).print(table)
