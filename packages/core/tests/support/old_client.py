"""A client and a worker as they were with the schema of 0001: beside `schema_0001/ledger.sql`, their statements.

`python old_client.py enqueue DSN` enqueues batches of 50 until SIGTERM, by COPY and by rpa.enqueue in turn, each key
twice. `python old_client.py work DSN` claims and completes until SIGTERM.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import uuid
from pathlib import Path

import psycopg

FLOW = "act"
BATCH = 50
_TEXT = (Path(__file__).parent / "schema_0001" / "ledger.sql").read_text()
_PARTS = re.split(r"^-- name: (\w+)\s*$", _TEXT, flags=re.MULTILINE)[1:]
SQL = {name: body.strip().rstrip(";").encode() for name, body in zip(_PARTS[::2], _PARTS[1::2], strict=True)}
_KNOWN = (
    "SELECT g.key FROM unnest(%s::text[]) AS g (key) CROSS JOIN LATERAL (SELECT FROM rpa.period p CROSS JOIN LATERAL ("
    " SELECT FROM rpa.record r WHERE r.period = p.id AND r.flow = %s AND r.key = g.key LIMIT 1) AS h LIMIT 1) AS known"
)


def enqueue_batch(connection: psycopg.Connection, number: int) -> None:
    """One batch in one transaction; the same batch again changes nothing."""
    keys = [f"{number}-{n}" for n in range(BATCH)]
    payloads = [json.dumps({"n": n, "do": "aside" if n == 3 else "done"}) for n in range(BATCH)]
    with connection.transaction(), connection.cursor() as cursor:
        if number % 2:
            cursor.execute("SELECT accepted FROM rpa.enqueue(%s, %s::text[], %s::text[], true)", (FLOW, keys, payloads))
            return
        cursor.execute("SELECT rpa.flow_id(%s), rpa.open_period(), nextval('rpa.record_block')", (FLOW,))
        ((flow, period, first),) = cursor.fetchall()
        known = {row[0] for row in cursor.execute(_KNOWN, (keys, flow))}
        new = [(key, payload) for key, payload in zip(keys, payloads, strict=True) if key not in known]
        if not new:
            return
        with cursor.copy("COPY rpa.record (id, period, flow, key, payload) FROM STDIN") as stream:
            for place, (key, payload) in enumerate(new, first):
                stream.write_row((place, period, flow, key, payload))
        cursor.execute(
            "INSERT INTO rpa.chunk (flow, period, lo, hi, n) VALUES (%s, %s, %s, %s, %s)",
            (flow, period, first, first + len(new) - 1, len(new)),
        )
        cursor.execute("SELECT pg_notify('rpa.' || %s, '')", (FLOW,))


def work(connection: psycopg.Connection, flow: int) -> bool:
    """Claim a few chunks and end them: results, one retry for each record with n = 5, dead letters; False if idle."""
    lease, who = uuid.uuid4(), {"flow": flow, "owner": "old", "ttl_s": 2.0}
    connection.execute(SQL["promote"], {"flow": flow, "records": 100, "chunks": 10})
    chunks = connection.execute(
        SQL["claim"], {**who, "lease": lease, "records": 100, "chunks": 2, "cursor": 0}
    ).fetchall()
    for id_, period, lo, hi, ids, tries, n, epoch, _attempts, _progress in sorted(chunks):
        if ids is None:
            rows = connection.execute(SQL["read_ranges"], {"periods": [period], "los": [lo], "his": [hi]}).fetchall()
        else:
            rows = connection.execute(SQL["read_ids"], {"period": period, "ids": ids}).fetchall()
        tried = dict(zip(ids or (), tries or (), strict=True))
        again = [row[0] for row in rows if row[2]["n"] == 5 and not tried.get(row[0])]
        dead = [row[0] for row in rows if row[2]["do"] == "aside"]
        done = [row[0] for row in rows if row[0] not in {*again, *dead}]
        assert len(rows) == n
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(
                SQL["fence"],
                {
                    "statement_timeout": "20s", "idle_timeout": "10s", "lease": lease, "ids": [id_], "epochs": [epoch],
                    "ok": [len(done)], "moved": [len(again)], "dead": [len(dead)],
                },
            )  # fmt: skip
            if not cursor.fetchall():
                continue  # the lease was lost; nothing is written
            with cursor.copy("COPY rpa.result (record_id, chunk_id, period, data) FROM STDIN") as stream:
                for record_id in done:
                    stream.write_row((record_id, id_, period, '"old"'))
            with cursor.copy(
                "COPY rpa.dead_letter (record_id, period, flow, kind, tries, reasons) FROM STDIN"
            ) as stream:
                for record_id in dead:
                    stream.write_row((record_id, period, flow, "rejected", 1, ["old"]))
            if again:
                cursor.execute(
                    SQL["insert_chunk"],
                    {
                        "flow": flow, "period": period, "lo": min(again), "hi": max(again), "ids": again,
                        "tries": [1] * len(again), "n": len(again), "state": "w", "delay_s": 0.05, "attempts": 0,
                        "parent": id_,
                    },
                )  # fmt: skip
    return bool(chunks)


def main(what: str, dsn: str) -> None:
    """Until SIGTERM; what is begun then is ended."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        ((flow,),) = connection.execute("SELECT rpa.flow_id(%s)", (FLOW,)).fetchall()
        number = 0
        while not stop.is_set():
            if what == "enqueue":
                enqueue_batch(connection, number)
                enqueue_batch(connection, number)
                number += 1
                stop.wait(0.01)
            elif not work(connection, flow):
                stop.wait(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
