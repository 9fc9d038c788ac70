"""Write-ahead log per record, beyond the payload: what replication, archiving and the disk have to bear.

Processing is measured from the release of a paused queue to its last completion. Records are processed soon after
their intake, so that no checkpoint lies between. The worst case is given as well: right after a CHECKPOINT the first
change of every page is in the log as a full-page image, and with checksums the hint bits of a record that is read are
a change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from benchmarks import figures, noop
from benchmarks.bench import Bench, one
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.waits import until


def measure(bench: Bench) -> Iterator[Figure]:
    """Bytes per record: processing from claim to completion, and intake."""
    records = bench.size(200_000, 4_000)
    with bench.ledger() as ledger:
        noop.load(ledger, records, paused=True, analyze=False)  # it would set the hint bits beforehand
        soon = [_processing(bench, ledger, records, checkpoint=False) for _ in range(bench.runs)]
        late = [_processing(bench, ledger, records, checkpoint=True) for _ in range(bench.runs)]
    note = "claim to completion, payload of the results taken off"
    yield figures.of("WAL per record", soon, "bytes", figures.at_most(200), note=note)
    yield figures.of(
        "WAL per record, all input older than a checkpoint",
        late,
        "bytes",
        note=f"{note}; the worst case: full-page images of every input page, for its hint bits, included",
    )
    for keyed in (False, True):
        samples = [_intake(bench, bench.size(50_000, 4_000), keyed) for _ in range(bench.runs)]
        yield figures.of(
            f"WAL per record at intake, {'with' if keyed else 'without'} keys",
            samples,
            "bytes",
            note="payload taken off",
        )


def _processing(bench: Bench, template: str, records: int, *, checkpoint: bool) -> float:
    with bench.database(template) as dsn, bench.workers(noop.SPEC, dsn, 1), connect(dsn) as connection:
        if checkpoint:
            connection.execute("CHECKPOINT")
        before = _lsn(connection)
        with connection.transaction():
            connection.execute("UPDATE rpa.flow SET paused = false")
            connection.execute("SELECT pg_notify('rpa.noop', '')")
        until(lambda: not one(connection, "SELECT EXISTS (SELECT FROM rpa.chunk)")[0], 300.0, "an empty queue")
        written = _lsn(connection) - before
        (payload,) = one(connection, "SELECT sum(octet_length(data::text)) FROM rpa.result")
    return (written - int(payload)) / records


def _intake(bench: Bench, records: int, keyed: bool) -> float:
    with bench.ledger() as dsn, connect(dsn) as connection:
        new = [NewRecord(p, f"file.csv:{n}" if keyed else None) for n, p in enumerate(noop.payloads(records))]
        connection.execute("CHECKPOINT")
        before = _lsn(connection)
        with connection.transaction():
            enqueue(connection, "noop", new)
        written = _lsn(connection) - before
    return (written - sum(len(record.payload) for record in new)) / records


def _lsn(connection: psycopg.Connection[Any]) -> int:
    return int(one(connection, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")[0])
