"""`python -m benchmarks.baseline.worker DSN`: waits for the starting gate, then works until nothing is left."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import orjson
import psycopg
from psycopg.types.string import ByteaBinaryLoader

_CLAIM = b"""
WITH picked AS MATERIALIZED (
    SELECT id FROM baseline.chunk WHERE state = 'r' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE baseline.chunk c
SET state = 'l', lease_id = %(lease)s, lease_until = clock_timestamp() + interval '10 s'
FROM picked WHERE c.id = picked.id AND set_config('synchronous_commit', 'off', true) IS NOT NULL
RETURNING c.id, c.period, c.lo, c.hi
"""
_READ = b"SELECT id, payload FROM baseline.record WHERE period = %s AND id BETWEEN %s AND %s ORDER BY id"
_FENCE = b"""
WITH held AS (
    DELETE FROM baseline.chunk WHERE id = %(id)s AND lease_id = %(lease)s AND state = 'l'
    RETURNING id, period, n, lease_id
)
INSERT INTO baseline.chunk_done (id, period, n, lease_id) SELECT * FROM held RETURNING id
"""


def main(dsn: str) -> None:
    """Work."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.adapters.register_loader("json", ByteaBinaryLoader)
        connection.execute("SELECT pg_advisory_lock_shared(1)")  # the starting gate
        while chunk(connection):
            pass
        connection.execute("SELECT pg_advisory_lock_shared(2)")  # the session lives until its cost was read


def chunk(connection: psycopg.Connection[Any]) -> bool:
    """Do one chunk; False if there was none."""
    lease = uuid.uuid4()
    loads, dumps = orjson.loads, orjson.dumps
    with connection.cursor(binary=True) as cursor:
        claimed = cursor.execute(_CLAIM, {"lease": lease}).fetchone()
        if claimed is None:
            return False
        chunk_id, period, lo, hi = claimed
        records = cursor.execute(_READ, (period, lo, hi)).fetchall()
        end = b"\t%d\t%d\t" % (chunk_id, period)
        lines = b"".join([b"%d%s%s\n" % (number, end, dumps(loads(payload))) for number, payload in records])
        with connection.transaction():
            if cursor.execute(_FENCE, {"id": chunk_id, "lease": lease}).fetchone() is None:
                raise RuntimeError("the lease is lost")
            with cursor.copy("COPY baseline.result (record_id, chunk_id, period, data) FROM STDIN") as stream:
                stream.write(lines.replace(b"\\", b"\\\\"))  # JSON text holds no tab and no newline
    return True


if __name__ == "__main__":
    main(sys.argv[1])
