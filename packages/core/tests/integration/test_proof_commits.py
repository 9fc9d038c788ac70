"""A partition in the middle of COMMIT, hundreds of times: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from rpa_testkit.proxy.client import Proxy
from rpa_testkit.proxy.trap import Snap, Trap
from rpa_testkit.waits import WaitTimeoutError, until

from .engine import Engine
from .proofs import Feeder, edges, settled_once

_WORKERS = 4
_SNAPS: tuple[Snap, ...] = ("before", "after", "late", "cut")
_COMPLETION = ("COPY rpa.result", "COMMIT")


def _cut_off(proxy: Proxy, edge: str, times: int, rand: random.Random) -> Counter[str]:
    """Break the worker's connection at the COMMIT of a completion, `times` times; how it was broken, counted."""
    struck: Counter[str] = Counter()
    while struck["points"] < times:
        snap = rand.choice(_SNAPS)
        most_s = {"after": rand.choice((0.0, 0.5)), "late": 0.6, "cut": 0.004}.get(snap, 0.0)
        delay_s = rand.uniform(0.0, most_s)
        proxy.set_trap(edge, Trap(signs=_COMPLETION, snap=snap, nth=rand.randint(1, 6), delay_s=delay_s))
        try:
            until(lambda: proxy.trap(edge).sprung, 30, "a completion to be committed")
        except WaitTimeoutError:
            proxy.clear(edge)
            raise
        if snap == "after":
            until(lambda: proxy.trap(edge).answered, 30, "PostgreSQL to answer the COMMIT")
        struck["points"] += 1
        struck[snap] += 1
    proxy.clear(edge)
    return struck


@pytest.mark.slow
@pytest.mark.requirement("R8.1", "R8.2", "R3.3")
def test_a_partition_during_commit_loses_and_repeats_nothing(
    engine: Engine, counted: Callable[[int, int], int], record_property: Callable[[str, object], None]
) -> None:
    """200 times at random: COMMIT is lost, or its answer is, or it comes when its worker has asked elsewhere already.

    Every one of them is the COMMIT of a completion, sent by a worker that never hears what became of it: where the
    answer was thrown away the database has committed, where COMMIT was thrown away it has not.
    """
    engine.make_effect_table()
    points = counted(100, 200)
    per_worker = -(-points // _WORKERS)
    with edges(engine, _WORKERS) as (proxy, names, urls):
        with Feeder(engine, lambda n: {"n": n, "ms": 0.2}, least=2000, chunk_size=10) as feeder:
            workers = [engine.start("EFFECTS", database_rpa_db_url=url, claim_records=30, lease_ttl=10) for url in urls]
            for worker in workers:
                worker.wait_started()
            with ThreadPoolExecutor(_WORKERS) as pool:
                cutting = [
                    pool.submit(_cut_off, proxy, name, per_worker, random.Random(number))
                    for number, name in enumerate(names)
                ]
                struck = sum((each.result() for each in cutting), Counter())
        settled_once(engine, feeder.n)
    record_property("struck", dict(struck))
    assert struck["points"] >= points
    if points >= 50:
        assert min(struck[snap] for snap in _SNAPS) >= points // 10
    assert all(worker.process.running for worker in workers)
    # What a worker had finished it kept, and committed or found committed: no handler ran again for it.
    again = sum(times - 1 for times in engine.seen().values())
    record_property("handled_again", again)
    record_property("records", feeder.n)
    assert not again or any("lease.lost" in worker.process.log_text() for worker in workers)
    for worker in workers:
        worker.process.terminate()
    assert [worker.process.wait(20) for worker in workers] == [0] * _WORKERS
