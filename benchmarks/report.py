"""The figures as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import Figure
from rpa_core.version import VERSION


def table(figures: Sequence[Figure], *, quick: bool) -> Table:
    """Measured value, bar, and whether it was reached."""
    title = "Benchmarks, tiny sizes: figures mean nothing" if quick else "Benchmarks"
    made = Table(title=title, title_justify="left")
    for column in ("what", "measured", "bar", "", "how"):
        made.add_column(column, justify="right" if column == "measured" else "left", overflow="fold")
    marks = {True: "[green]ok[/]", False: "[bold red]missed[/]", None: ""}
    for figure in figures:
        bar = f"{figure.bar.sense} {_number(figure.bar.limit)}" if figure.bar else ""
        measured = f"{_number(figure.value)} {figure.unit}"
        mark = marks[None if quick else figure.ok]
        made.add_row(figure.name, measured, bar, mark, f"{figure.note}{_spread(figure)}")
    return made


def write(path: Path, figures: Mapping[str, Sequence[Figure]], *, quick: bool, runs: int, postgres: str) -> None:
    """Everything, samples included, with what it was measured on."""
    content: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "quick": quick,
        "runs": runs,
        "machine": {
            "cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "postgres": postgres,
            "load_average": os.getloadavg(),
        },
        "figures": [{"measurement": name, **figure.report()} for name, found in figures.items() for figure in found],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"


def _spread(figure: Figure) -> str:
    if len(figure.samples) < 2:
        return ""
    return f" [dim]({_number(min(figure.samples))} to {_number(max(figure.samples))})[/]"
