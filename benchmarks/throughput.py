"""The no-op flow against the same work by hand: what the engine costs.

By hand a transaction ends one chunk of 1,000 records. The engine runs with its defaults, which end up to 2,000 in one;
how it fares with 1,000 is given beside it, so that the gain of larger transactions is not taken for that of its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import figures, noop, race
from benchmarks.baseline.load import CHUNK, load
from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure

_WORKERS = 2


def measure(bench: Bench) -> Iterator[Figure]:
    """Records/s of each side, taking turns, and their ratios."""
    records = bench.size(400_000, 4_000)
    one_chunk = {"CONTAINER_CLAIM_RECORDS": str(CHUNK)}
    baseline: list[race.Race] = []
    engine: list[race.Race] = []
    equal: list[race.Race] = []
    with bench.database() as by_hand, bench.ledger() as ledger:
        load(by_hand, noop.payloads(records))
        noop.load(ledger, records, paused=True)
        for _ in range(bench.runs):
            baseline.append(race.by_hand(bench, by_hand, records, _WORKERS))
            engine.append(race.engine(bench, ledger, "noop", records, _WORKERS, spec=noop.SPEC))
            equal.append(race.engine(bench, ledger, "noop", records, _WORKERS, spec=noop.SPEC, environ=one_chunk))
            speeds = [f"{side[-1].records_per_s:,.0f}/s" for side in (baseline, engine, equal)]
            bench.say(f"by hand {speeds[0]}, rpa {speeds[1]}, rpa with {CHUNK:,} a transaction {speeds[2]}")
    yield race.speed("by hand, 2 workers", baseline, f"plain psycopg, {CHUNK:,} records a transaction")
    yield race.speed("no-op flow, 2 workers", engine, f"default settings, {records:,} records, one result row each")
    yield _ratio("no-op flow / by hand", engine, baseline, figures.at_least(0.6))
    yield _ratio(f"the same, both {CHUNK:,} a transaction", equal, baseline, None)


def _ratio(name: str, engine: Sequence[race.Race], baseline: Sequence[race.Race], bar: Bar | None) -> Figure:
    medians = [figures.of("", [run.records_per_s for run in side], "").value for side in (engine, baseline)]
    return Figure(
        name=name,
        value=medians[0] / medians[1],
        unit="x",
        bar=bar,
        samples=[e.records_per_s / b.records_per_s for e, b in zip(engine, baseline, strict=True)],
        note="the median speeds divided; samples are runs next to each other",
    )
