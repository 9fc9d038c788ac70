"""A worker with a wrong password: how long until its exit code 77 says so."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from psycopg.conninfo import make_conninfo

from benchmarks import figures, noop
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_core.store.connect import connect

_ROLE = "mistaken"
_REFUSED = 77
_PATIENCE_S = 60.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Seconds from the start of the process to its end, the longest of all."""
    with bench.ledger() as dsn:
        bench.server.create_role(_ROLE, "right-one")
        try:
            wrong = make_conninfo(dsn, user=_ROLE, password="wrong-one")
            samples = [_refused_s(bench, wrong) for _ in range(2 * bench.runs)]
        finally:
            with connect(dsn) as connection:
                connection.execute(f"DROP ROLE {_ROLE}".encode())
    yield Figure(
        name="wrong password to exit 77, the longest",
        value=max(samples),
        unit="s",
        bar=figures.at_most(5),
        samples=samples,
        note=f"median {statistics.median(samples):.2f} s, `rpa run` from its start",
    )


def _refused_s(bench: Bench, dsn: str) -> float:
    begun = time.monotonic()
    worker = bench.start_worker(noop.SPEC, dsn)
    try:
        if (code := worker.wait(_PATIENCE_S)) != _REFUSED:
            raise RuntimeError(f"a worker ended with {code}, not {_REFUSED}:\n{worker.log_text()[-4000:]}")
        return time.monotonic() - begun
    finally:
        worker.reap()
