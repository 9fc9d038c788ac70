"""Claims and reads are bounded by bytes: large records cost time, never the worker."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rpa_core.store.ledger import Ledger
from rpa_core.store.values import Claim
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.proxy.rules import Rule

from .engine import Engine, Running

_MB = 1_000_000
# One chunk of 1 MB records, as a client of the first schema wrote it: its bytes are not counted.
_ONE_CHUNK = """
WITH written AS (
    INSERT INTO rpa.record (id, period, flow, key, payload)
    SELECT 1000000 + g, rpa.open_period(), rpa.flow_id('act'), 'k' || g,
           json_build_object('n', g, 'pad', repeat(md5(g::text), 31250))
    FROM generate_series(1, %s) g RETURNING id, period, flow
)
INSERT INTO rpa.chunk (flow, period, lo, hi, n, attempts)
SELECT flow, period, min(id), max(id), count(*), %s FROM written GROUP BY flow, period
"""
_SEQUENCE = "SELECT setval('rpa.record_block', 2000001)"


def _one_chunk(engine: Engine, n: int, *, attempts: int = 0) -> None:
    engine.ask(_ONE_CHUNK, n, attempts)
    engine.ask(_SEQUENCE)


def _peak_bytes(worker: Running) -> int:
    """The most memory the process has had."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


@pytest.mark.slow
@pytest.mark.requirement("R6.1", "R6.2", "R8.7")
@pytest.mark.parametrize(("flow", "attempts"), [("ACT", 0), ("BATCH", 0), ("ACT", 1), ("ACT", 4)])
def test_a_chunk_that_is_larger_than_memory_allows_is_worked_off(engine: Engine, flow: str, attempts: int) -> None:
    """100 MB in one chunk: read in parts of 4 MiB, also after it ended workers; all done, none twice."""
    _one_chunk(engine, 100, attempts=attempts)
    worker = engine.start(flow, claim_bytes="4MiB")
    assert engine.settle(60) == {"done": 100}
    assert _peak_bytes(worker) < 150 * _MB
    assert set(engine.seen().values()) == {1}
    ((largest,),) = engine.ask("SELECT max(n_ok) FROM rpa.chunk_done")
    assert largest <= 4


@pytest.mark.requirement("R6.1", "R6.2")
@pytest.mark.parametrize("flow", ["ACT", "ASYNC"])
def test_results_are_committed_before_they_fill_the_memory(engine: Engine, flow: str) -> None:
    """40 small records whose results have 1 MB each: no more than about 4 MiB of results waits for a commit."""
    engine.enqueue({"n": number, "do": "large", "bytes": _MB, "ms": 2} for number in range(40))
    engine.start(flow, claim_bytes="4MiB", claim_records=1000)
    assert engine.settle(60) == {"done": 40}
    assert set(engine.seen().values()) == {1}
    ((largest,),) = engine.ask("SELECT max(n_ok) FROM rpa.chunk_done")
    assert largest <= 4 + 1 + (32 if flow == "ASYNC" else 0)


@pytest.mark.slow
@pytest.mark.requirement("R8.2", "N3")
def test_a_claim_that_takes_long_to_read_still_moves(engine: Engine) -> None:
    """Over 10 MB/s the whole chunk takes three times as long as there is between two commits."""
    _one_chunk(engine, 30)
    server = urlsplit(engine.dsn)
    assert server.hostname
    assert server.port
    with Proxy.spawn(seed=1, env={}) as proxy:
        port = proxy.open_edge("slow", (server.hostname, server.port))
        proxy.set_rule("slow", Rule(bytes_per_s=10 * _MB))
        engine.start(database_rpa_db_url=engine.dsn.replace(f":{server.port}", f":{port}"))
        assert engine.settle(60) == {"done": 30}
    assert set(engine.seen().values()) == {1}


@pytest.mark.requirement("R6.1")
def test_a_claim_holds_about_as_many_bytes_as_it_was_asked_for(engine: Engine) -> None:
    """Chunks count with the size that their writer noted; one of unknown size counts as all that was asked for."""
    engine.enqueue(({"n": number} for number in range(60)), chunk_size=10)
    engine.ask("UPDATE rpa.chunk SET bytes = 1000")

    def claimed(size_bytes: int | None) -> int:
        ledger = Ledger.open(engine.dsn, flow="act", owner="w", ttl_s=60)
        try:
            claim = ledger.claim(records=1000, chunks=100, size_bytes=size_bytes)
            assert isinstance(claim, Claim)
            ledger.release(claim, claim.chunks)
            return len(claim.chunks)
        finally:
            ledger.close()

    assert [claimed(size) for size in (1, 1000, 1001, 2500, None)] == [1, 1, 2, 3, 6]
    engine.ask("UPDATE rpa.chunk SET bytes = NULL WHERE id = (SELECT min(id) + 1 FROM rpa.chunk)")
    assert [claimed(size) for size in (1000, 1500, 3000, None)] == [1, 2, 2, 6]
