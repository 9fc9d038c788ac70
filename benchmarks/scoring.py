"""rpa2 on real responses, with all that production adds: keys, and each score emitted to rpa3 as it commits."""

from __future__ import annotations

import random
from collections.abc import Iterator

import orjson

from benchmarks import figures, race
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_flows.codebook.load import load_codebook
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import real_rows

_WORKERS = 2


def measure(bench: Bench) -> Iterator[Figure]:
    """Records/s of two rpa2 workers."""
    records = bench.size(120_000, 2_000)
    with bench.ledger() as ledger:
        with connect(ledger) as connection:
            connection.execute("SELECT rpa.flow_id('rpa2')")
            connection.execute("UPDATE rpa.flow SET paused = true WHERE name = 'rpa2'")
            with connection.transaction():
                enqueue(connection, "rpa2", _records(records))
            connection.execute("ANALYZE")
        races = []
        for _ in range(bench.runs):
            races.append(race.engine(bench, ledger, "rpa2", records, _WORKERS))
            bench.say(f"rpa2 {races[-1].records_per_s:,.0f}/s")
    yield figures.of(
        "rpa2 scoring, 2 workers",
        [run.records_per_s for run in races],
        "records/s",
        figures.at_least(30_000),
        note=f"{records:,} records drawn from the 944 real responses, each score emitted to rpa3",
        worker_cpu_us_per_record=[round(run.worker_cpu_us, 2) for run in races],
        server_cpu_us_per_record=[round(run.server_cpu_us, 2) for run in races],
    )


def _records(number: int) -> Iterator[NewRecord]:
    """Responses as rpa1 gives them on, drawn with replacement; always the same ones."""
    book = load_codebook("anes96")
    validate = compile_validator(book)
    checked = [validate(row) for row in real_rows(book)]
    valid = [(one.key or str(place), one.answers) for place, one in enumerate(checked) if not one.reasons]
    rand = random.Random(1)
    for serial in range(number):
        key, answers = rand.choice(valid)
        payload = orjson.dumps({"survey": book.name, "key": f"{key}-{serial}", "answers": answers})
        yield NewRecord(payload, f"responses.csv:{serial + 2}:{key}")
