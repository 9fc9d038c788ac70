"""The no-op flow against the same work by hand: what the engine costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures, noop, race
from benchmarks.baseline.load import load
from benchmarks.bench import Bench
from benchmarks.figures import Figure

_WORKERS = 2


def measure(bench: Bench) -> Iterator[Figure]:
    """Records/s of both sides, taking turns, and their ratio."""
    records = bench.size(400_000, 4_000)
    with bench.database() as by_hand, bench.ledger() as ledger:
        load(by_hand, noop.payloads(records))
        noop.load(ledger, records, paused=True)
        baseline, engine = [], []
        for _ in range(bench.runs):
            baseline.append(race.by_hand(bench, by_hand, records, _WORKERS))
            engine.append(race.engine(bench, ledger, "noop", records, _WORKERS, spec=noop.SPEC))
            bench.say(f"by hand {baseline[-1].records_per_s:,.0f}/s, rpa {engine[-1].records_per_s:,.0f}/s")
    hand = _figure("by hand, 2 workers", baseline, "plain psycopg, the same durable work")
    rpa = _figure("no-op flow, 2 workers", engine, f"{records:,} records, one result row each")
    yield hand
    yield rpa
    yield Figure(
        name="no-op flow / by hand",
        value=rpa.value / hand.value,
        unit="x",
        bar=figures.at_least(0.6),
        samples=[b.records_per_s / a.records_per_s for a, b in zip(baseline, engine, strict=True)],
        note="the median speeds divided; the samples are pairs of neighbouring runs",
    )


def _figure(name: str, races: list[race.Race], note: str) -> Figure:
    return figures.of(
        name,
        [run.records_per_s for run in races],
        "records/s",
        note=note,
        worker_cpu_us_per_record=[round(run.worker_cpu_us, 2) for run in races],
        server_cpu_us_per_record=[round(run.server_cpu_us, 2) for run in races],
    )
