"""rpa itself: the no-op flow with default settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from benchmarks import noop
from benchmarks.bench import Bench, one
from benchmarks.peers.payload import fields
from benchmarks.peers.side import Copies, Enqueue, Setting, System, copies
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.version import VERSION


class RpaSide:
    """Records in chunks, results by COPY, one transaction for up to 4,000 of them."""

    name = "rpa"
    records = 3_000_000
    results = "rpa.result"
    gate = "rpa.chunk"
    seen = (
        "SELECT 1 FROM rpa.record r JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id"
        " WHERE r.flow = (SELECT id FROM rpa.flow WHERE name = 'noop') AND r.key = %(number)s::text"
    )
    settings: Sequence[Setting] = (
        Setting(chosen="defaults", why="nothing is tuned", page="docs/performance.md, knobs that matter"),
    )

    def missing(self) -> str:
        """Always here."""
        return ""

    def version(self) -> str:
        """This tree's."""
        return f"rpa {VERSION}"

    @contextmanager
    def loaded(self, bench: Bench, records: int) -> Iterator[Copies]:
        """Enqueued by COPY."""
        with bench.ledger() as template:
            noop.load(template, records, paused=False)
            yield copies(bench, template, lambda dsn: self._system(bench, dsn))

    def _system(self, bench: Bench, dsn: str) -> System:
        return System(
            dsn=dsn,
            start=lambda: bench.start_worker(noop.SPEC, dsn),
            drained=_drained,
            producer=lambda: _producer(dsn),
        )


def _drained(connection: psycopg.Connection[Any]) -> bool:
    return not one(connection, "SELECT EXISTS (SELECT FROM rpa.chunk)")[0]


@contextmanager
def _producer(dsn: str) -> Iterator[Enqueue]:
    with connect(dsn, application_name="benchmark in") as connection:

        def put(number: int) -> None:
            with connection.transaction():
                enqueue(connection, "noop", [NewRecord(orjson.dumps(fields(number)), str(number))])

        yield put
