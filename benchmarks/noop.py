"""The flow that does nothing but answer, and records for it."""

from __future__ import annotations

from collections.abc import Iterator

from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue

SPEC = "benchmarks.noop:FLOW"


def handle(record: Record, context: FlowContext) -> Outcome:
    """The payload, decoded and encoded again."""
    return Done(record.payload)


FLOW = Flow(name="noop", handle=handle)


def payloads(records: int) -> Iterator[bytes]:
    """Small ones: what the engine adds to each record shows most."""
    return (b'{"a":%d,"b":"hello","c":[1,2,3]}' % number for number in range(records))


def load(dsn: str, records: int, *, paused: bool, analyze: bool = True) -> None:
    """Enqueue; a `paused` flow's workers wait. ANALYZE gives the planner what autovacuum would, in its own time."""
    with connect(dsn, application_name="benchmark") as connection:
        connection.execute("SELECT rpa.flow_id('noop')")
        connection.execute("UPDATE rpa.flow SET paused = %s WHERE name = 'noop'", (paused,))
        with connection.transaction():
            enqueue(connection, "noop", (NewRecord(payload) for payload in payloads(records)))
        if analyze:
            connection.execute("ANALYZE")
