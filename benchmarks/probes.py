"""Probes of a worker whose handler burns CPU: how long an answer takes while the interpreter is wanted elsewhere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks import burn, figures, surface
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.waits import until

_PATHS = ("/health/live", "/metrics")
_BURN_S = 60  # longer than all the asking takes
_CLAIMED = b'rpa_claims_total{flow="burn",result="claimed"} 1.0'


def measure(bench: Bench) -> Iterator[Figure]:
    """p99 of each path, asked in turn over new connections, all during one call of the handler."""
    number = bench.size(500, 20)
    took_ms: dict[str, list[float]] = {path: [] for path in _PATHS}
    with bench.ledger() as dsn, connect(dsn, application_name="benchmark") as ledger:
        with ledger.transaction():
            enqueue(ledger, burn.FLOW.name, [NewRecord(b'{"seconds": %d}' % _BURN_S)])
        worker = bench.start_worker(burn.SPEC, dsn)
        try:
            port = surface.port(worker)
            until(lambda: _CLAIMED in surface.ask(port, "/metrics")[1], 30.0, "the handler to burn", worker.log_text)
            for _ in range(number):
                for path in _PATHS:
                    took_ms[path].append(_answer_ms(port, path))
            if ledger.execute("SELECT 1 FROM rpa.result").fetchone():
                raise RuntimeError(f"the handler was through before {2 * number} answers had come")
        finally:
            worker.reap()
    for path, samples in took_ms.items():
        yield Figure(
            name=f"{path} while a handler burns CPU, p99",
            value=figures.percentile(samples, 0.99),
            unit="ms",
            bar=figures.at_most(100),
            samples=samples,
            note=f"{number} answers, p50 {statistics.median(samples):.1f} ms",
        )


def _answer_ms(port: int, path: str) -> float:
    begun = time.perf_counter()
    status, _ = surface.ask(port, path)
    if status != 200:
        raise RuntimeError(f"{path} answered {status}")
    return (time.perf_counter() - begun) * 1000
