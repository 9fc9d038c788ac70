"""After the drain: what became of every record, and whether the ledger agrees with itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from rpa_testkit.history.entries import Kind
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.runner.workload import serial_of

_BLOCK = 5_000
_SHOWN = 50
_HERE = Path(__file__).parent


def observe(dsn: str, flow: str, history: HistoryWriter, *, effects: bool) -> None:
    """Write an `outcome` line per record of `flow`, then the contradictions and what is unfinished."""
    with psycopg.connect(dsn, application_name="rpa-testkit observer") as connection:
        # The ledger's clock in terms of the run's: the run began at this moment of the server's.
        before = history.now()
        (server,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone() or (0.0,)
        began = server - (before + history.now()) / 2
        parameters = {"flow": flow, "effects": effects}
        with connection.cursor("records") as cursor:
            cursor.itersize = _BLOCK
            cursor.execute((_HERE / "observe.sql").read_bytes(), parameters)
            for rows in _blocks(cursor):
                history.extend("observer", Kind.OUTCOME, "record", (_outcome(row, began) for row in rows))
        connection.execute("SELECT set_config('testkit.flow', %s, false)", (flow,))
        found = connection.execute((_HERE / "contradictions.sql").read_bytes()).fetchall()
        history.add("observer", Kind.OBSERVE, "contradictions", None, {"count": len(found)})
        history.extend("observer", Kind.OBSERVE, "contradiction", [(None, row[0]) for row in found[:_SHOWN]])
        ended = connection.execute((_HERE / "errors.sql").read_bytes(), parameters).fetchall()
        history.extend("observer", Kind.OBSERVE, "ended", [(row[0], row[1:]) for row in ended])
        left = connection.execute("SELECT id, state::text, n, owner FROM rpa.chunk ORDER BY id LIMIT 50").fetchall()
        history.extend("observer", Kind.OBSERVE, "chunk", [(row[0], row[1:]) for row in left])


def connections(dsn: str) -> int:
    """Connections that workers still hold: there should be none once they have ended."""
    with psycopg.connect(dsn, application_name="rpa-testkit observer") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rpa %' AND datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else 0


def _outcome(row: Sequence[Any], began: float) -> tuple[Any, tuple[Any, ...]]:
    key, results, effects, dead, chunks, writer, owner, enqueued, done = row
    late = None if done is None else round(done - began, 4)
    return serial_of(key), (results, effects, dead, chunks, writer, owner, round(enqueued - began, 4), late)


def _blocks(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    iterator = iter(rows)
    while block := list(islice(iterator, _BLOCK)):
        yield block
