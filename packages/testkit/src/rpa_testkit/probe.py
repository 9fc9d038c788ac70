"""The flow of scenarios: it does what a record says; its effects are counted where nothing refuses a second one.

A payload is `{"n": serial, "ms": time to spend, "do": "retry" | "reject"}`; the last two may be missing. Needs rpa_core
alone, so that it runs in any image that has it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from rpa_core.errors import RecordRejected
from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, Retry

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS testkit;
CREATE TABLE IF NOT EXISTS testkit.effect (record_id bigint NOT NULL, writer text NOT NULL);
"""


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Make the table of effects: without a key on purpose, so that a second effect is seen and not refused."""
    connection.execute(_SCHEMA)


@contextmanager
def _label(context: OpenContext) -> Iterator[str]:
    yield os.environ.get("CONTAINER_WORKER_ID", str(os.getpid()))


def handle(record: Record, context: FlowContext) -> Outcome:
    """Spend the time, then do what is asked."""
    payload = record.payload
    if ms := payload.get("ms"):
        threading.Event().wait(ms / 1000)
    match payload.get("do"):
        case "retry" if record.attempt == 1:
            return Retry("asked for at the first attempt")
        case "reject":
            raise RecordRejected("asked for")
    return Done({"n": payload["n"], "by": context.resources})


def write_effects(connection: psycopg.Connection[Any], done: Sequence[tuple[Record, Done]]) -> None:
    """One row per record."""
    with connection.cursor() as cursor, cursor.copy("COPY testkit.effect (record_id, writer) FROM STDIN") as copy:
        for record, outcome in done:
            copy.write_row((record.id, outcome.data["by"]))


FLOW = Flow(name="probe", handle=handle, open=_label, effects=write_effects)
