"""PostgreSQL is away for a while, behind an edge that refuses: how soon does work go on after its return?

One worker is in the middle of its work when the server goes, another one is started while it is away.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks import brief, figures, noop
from benchmarks.bench import Bench, one
from benchmarks.figures import Figure
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.waits import pause
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.proxy.rules import Rule
from rpa_testkit.waits import until

_EDGE = "worker->postgres"
_RECORDS = 60_000  # more than is done meanwhile
_PATIENCE_S = 60.0
_SETTINGS = {"CONTAINER_CLAIM_RECORDS": "100"}
_BY = "SELECT count(*) FROM rpa.chunk_done WHERE owner LIKE %s"
_NAMES = ("early", "late")


def measure(bench: Bench) -> Iterator[Figure]:
    """Seconds from the moment when connections can be made to the next commit of each worker, the longest of all."""
    away_s, never = bench.size(30, 2), threading.Event()
    taken_s: dict[str, list[float]] = {name: [] for name in _NAMES}
    for _ in range(bench.runs):
        with bench.ledger() as dsn, connect(dsn, application_name="benchmark") as ledger:
            with ledger.transaction():
                enqueue(ledger, brief.FLOW.name, map(NewRecord, noop.payloads(_RECORDS)), chunk_size=100)
            for name, back_s in _once(bench, dsn, ledger, away_s, never).items():
                taken_s[name].append(back_s)
        bench.say(", ".join(f"{name} {samples[-1]:.2f} s" for name, samples in taken_s.items()))
    for name, samples in taken_s.items():
        was = "at work when it went" if name == "early" else "started meanwhile"
        yield Figure(
            name=f"work after PostgreSQL's return, {was}",
            value=max(samples),
            unit="s",
            bar=figures.at_most(5),
            samples=samples,
            note=f"the longest; away {away_s} s, median {statistics.median(samples):.2f} s",
        )


def _once(
    bench: Bench, dsn: str, ledger: psycopg.Connection[object], away_s: float, never: threading.Event
) -> dict[str, float]:
    with Proxy.spawn(seed=1, env=os.environ) as proxy:
        proxy.open_edge(_EDGE, ("127.0.0.1", bench.server.port))
        host, port = proxy.address(_EDGE)
        through = make_conninfo(dsn, host=host, port=port)
        workers = []
        try:
            workers.append(bench.start_worker(brief.SPEC, through, _SETTINGS | {"CONTAINER_WORKER_ID": "early"}))
            until(lambda: _done(ledger, "early"), _PATIENCE_S, "work to begin", workers[0].log_text)
            proxy.set_rule(_EDGE, Rule(refuse=True))
            proxy.reset(_EDGE)
            workers.append(bench.start_worker(brief.SPEC, through, _SETTINGS | {"CONTAINER_WORKER_ID": "late"}))
            workers[1].wait_for_log("waiting for database", _PATIENCE_S)
            pause(never, away_s)
            before = {name: _done(ledger, name) for name in _NAMES}
            proxy.clear(_EDGE)
            returned, back_s = time.monotonic(), dict[str, float]()

            def all_back() -> bool:
                for name in _NAMES:
                    if name not in back_s and _done(ledger, name) > before[name]:
                        back_s[name] = time.monotonic() - returned
                return len(back_s) == len(_NAMES)

            until(all_back, _PATIENCE_S, "work to go on", lambda: "\n".join(w.log_text()[-2000:] for w in workers))
            return back_s
        finally:
            for worker in workers:
                worker.reap()


def _done(ledger: psycopg.Connection[object], name: str) -> int:
    """Chunks that this worker has ended."""
    return int(one(ledger, _BY, (f"{name}:%",))[0])
