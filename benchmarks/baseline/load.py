"""The same records, in the baseline's own schema."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import psycopg

CHUNK = 1000


def load(dsn: str, payloads: Iterable[bytes]) -> None:
    """Make the schema, COPY the records, cut chunks. Payloads hold nothing that COPY would want escaped."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(resources.files("benchmarks.baseline").joinpath("schema.sql").read_bytes())
        with cursor.copy("COPY baseline.record (id, period, flow, payload) FROM STDIN") as stream:
            for number, payload in enumerate(payloads):
                stream.write(b"%d\t1\t1\t%s\n" % (number, payload))
        cursor.execute(
            "INSERT INTO baseline.chunk (period, lo, hi, n)"
            " SELECT 1, min(id), max(id), count(*) FROM baseline.record GROUP BY id / %s ORDER BY 1, 2",
            (CHUNK,),
        )
        cursor.execute("ANALYZE")
