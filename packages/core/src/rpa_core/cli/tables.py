"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def show(first: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print rows by name, a column for each field; numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    fields = list(next(iter(rows.values())))
    table = Table(first, box=None, header_style="bold")
    for field in fields:
        table.add_column(field.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(
            name, *(f"{row[field]:,}" if isinstance(row[field], int) else str(row[field]) for field in fields)
        )
    Console().print(table)
