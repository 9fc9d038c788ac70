"""More workers than cores: they must not stand in each other's way."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks import figures, noop, race
from benchmarks.bench import Bench
from benchmarks.figures import Figure

_NUMBERS = (1, 2, 4, 8, 16)


def measure(bench: Bench) -> Iterator[Figure]:
    """No-op throughput by number of workers, and what is left of the peak when more are added."""
    records = bench.size(600_000, 4_000)
    numbers = _NUMBERS[:2] if bench.quick else _NUMBERS
    speeds: dict[int, list[float]] = {number: [] for number in numbers}
    with bench.ledger() as ledger:
        noop.load(ledger, records, paused=True)
        for _ in range(bench.runs):
            for number in numbers:
                run = race.engine(bench, ledger, "noop", records, number, spec=noop.SPEC)
                speeds[number].append(run.records_per_s)
                bench.say(f"{number} workers {run.records_per_s:,.0f}/s")
    for number, samples in speeds.items():
        yield figures.of(f"no-op flow, {number} worker{'s'[: number - 1]}", samples, "records/s")
    medians = {number: statistics.median(samples) for number, samples in speeds.items()}
    peak = max(medians, key=lambda number: medians[number])
    beyond = {number: median for number, median in medians.items() if number >= peak}
    lowest = min(beyond, key=lambda number: beyond[number])
    yield Figure(
        name="scaling, lowest from the peak on / peak",
        value=beyond[lowest] / medians[peak],
        unit="x",
        bar=figures.at_least(0.8),
        note=f"peak with {peak}, lowest after it with {lowest} of {numbers[-1]} workers; {records:,} records",
    )
    yield Figure(
        name="scaling, one worker / peak",
        value=medians[1] / medians[peak],
        unit="x",
        note="a single worker takes turns with its server session, so it fills about one core",
    )
