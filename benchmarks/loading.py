"""Filling a database with survey responses by `TestDataManager.load`, their making included."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_testkit import TestDataManager


def measure(bench: Bench) -> Iterator[Figure]:
    """Rows/s into an empty ledger, which is emptied again each time."""
    records, manager, samples = bench.size(200_000, 5_000), TestDataManager(), []
    with bench.ledger() as dsn:
        for _ in range(bench.runs):
            loaded = manager.load(dsn, records=records)
            if loaded.accepted != records:
                raise RuntimeError(f"{loaded.accepted} of {records} records were loaded")
            manager.reset(dsn)
            samples.append(loaded.rows_per_s)
    note = f"{records:,} responses made and copied, committed by the hundred thousand"
    yield figures.of("TestDataManager.load", samples, "rows/s", figures.at_least(100_000), note=note)
