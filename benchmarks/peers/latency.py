"""One record at a time into an idle system, from before its enqueue until another session sees its result row.

As in `benchmarks.latency`: a sample holds the enqueue with its commit, the wake-up, the handling, the row's commit and
up to one look-up too much; between samples the system is idle for a random time.
"""

from __future__ import annotations

import random
import threading
import time

import psycopg

from benchmarks.peers.run import drain, working
from benchmarks.peers.side import Copies, Side
from rpa_core.waits import pause

WARM_UP = 200
_LONGEST_S = 30.0
_DRAIN_S = 120.0


def samples_ms(side: Side, copies: Copies, number: int) -> list[float]:
    """Milliseconds of `number` records, after the `WARM_UP` that were loaded are done."""
    rand, never, found = random.Random(1), threading.Event(), list[float]()
    seen = side.seen.encode()
    with copies() as system, working(side, system) as started:
        drain(side, system, started, _DRAIN_S)
        with system.producer() as enqueue, psycopg.connect(system.dsn, autocommit=True) as out:
            for record in range(WARM_UP, WARM_UP + number):
                pause(never, rand.uniform(0.02, 0.1))
                begun = time.perf_counter()
                enqueue(record)
                while not out.execute(seen, {"number": record}, prepare=True).fetchone():
                    if time.perf_counter() - begun > _LONGEST_S:
                        started.check()
                        raise TimeoutError(f"no result for record {record} after {_LONGEST_S:g} s")
                found.append((time.perf_counter() - begun) * 1000)
    return found
