"""A progress bar for people; nothing where stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rpa_core.observability.printable import printable


@contextmanager
def bytes_progress(file: Path, *, quiet: bool) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with each number of bytes read."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    total = file.stat().st_size if str(file) != "-" else None
    name = TextColumn("{task.description}", markup=False)  # a file's name may look like markup, or like a format
    with Progress(
        name, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task(printable(file.name), total=total)
        yield lambda n: progress.advance(task, n)
