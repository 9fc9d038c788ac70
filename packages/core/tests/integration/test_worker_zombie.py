"""A worker that slept past its lease: it finds out, writes nothing, and goes on with new records."""

from __future__ import annotations

import pytest

from rpa_testkit.waits import until

from .engine import Engine

_LOST = 'rpa_records_total{flow="act",outcome="lost"}'


@pytest.mark.requirement("R8.2", "R5.4", "R3.3")
@pytest.mark.parametrize("point", ["mid-batch", "handled", "results-written"])
def test_a_zombie_writes_nothing_and_works_on(engine: Engine, point: str) -> None:
    """Stopped with records in hand, overtaken, continued: its outcomes are discarded; new records it does as ever."""
    engine.make_effect_table()
    engine.enqueue({"n": number} for number in range(200))
    zombie = engine.start("EFFECTS", checkpoint=f"{point}:1:stop", lease_ttl=1)
    zombie.process.wait_reached(20)
    zombie.process.wait_stopped(10)
    if point == "results-written":  # its transaction is open and holds the row: the server has to end it
        engine.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
    other = engine.start("EFFECTS", lease_ttl=1)
    assert engine.settle() == {"done": 200}
    owners = engine.ask("SELECT DISTINCT split_part(owner, ':', 2) FROM rpa.chunk_done")
    assert owners == [(str(other.process.pid),)]
    other.process.terminate()
    assert other.process.wait(20) == 0
    before = engine.effects()
    assert set(before.values()) == {1}

    zombie.process.cont()
    until(lambda: zombie.metric(_LOST) == 200, 20, "the zombie to notice", zombie.process.log_text)
    assert engine.effects() == before
    engine.enqueue(({"n": number} for number in range(50)), key="new")
    until(lambda: engine.done() == 250, 20, "new records to be done", engine.describe)
    assert zombie.process.running
    owners = engine.ask("SELECT DISTINCT split_part(owner, ':', 2) FROM rpa.chunk_done WHERE n = 50")
    assert owners == [(str(zombie.process.pid),)]
