"""An outage that is longer than the worker's life: what it had finished is committed by a later life, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_core.resilience.spool.directory import open_spools
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.waits import until

from .engine import Engine, Running

_N = 60
_ENDED_S = 20  # a part of the shutdown timeout, which is how long a drain waits where nothing was kept
_LOST = 'rpa_records_total{flow="act",outcome="lost"}'


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The folder that outlives a worker."""
    return tmp_path / "spool"


def _flush(engine: Engine) -> None:
    """Claims commit asynchronously; here they shall outlive the crash of the server."""
    engine.ask("CREATE TABLE IF NOT EXISTS public.flushed ()")


def _finished_without_a_database(
    engine: Engine, server: EmbeddedPostgres, volume: Path, *, checkpoint: str | None = None, lease_ttl: float = 30
) -> Running:
    """A worker with all of its records handled, and the server gone before their outcomes could be committed."""
    engine.make_effect_table()
    engine.enqueue([{"n": number, "ms": 10} for number in range(_N)])
    worker = engine.start(
        "EFFECTS", lease_ttl=lease_ttl, shutdown_timeout=100, stop_grace=120, spool_dir=volume, checkpoint=checkpoint
    )
    until(lambda: sum(engine.seen().values()) >= 5, 20, "the handler to run", worker.process.log_text)
    _flush(engine)
    server.stop("immediate")
    return worker


def _later_life(engine: Engine, volume: Path, *, checkpoint: str | None = None, lease_ttl: float = 30) -> Running:
    return engine.start("EFFECTS", lease_ttl=lease_ttl, spool_dir=volume, checkpoint=checkpoint)


def _waiting(volume: Path) -> int:
    """Entries of finished work that nobody who lives has in hand."""
    spools = open_spools(
        volume, flow="act", label="look", incarnation="0", max_bytes=2**24, max_age_s=3600, reserve_bytes=0
    )
    try:
        return sum(spool.depth("finished").entries for spool in spools.adopted())
    finally:
        spools.close()


def _each_effect_once(engine: Engine) -> None:
    effects = engine.effects()
    assert len(effects) == _N
    assert set(effects.values()) == {1}


@pytest.mark.requirement("R8.1", "R2.5", "R5.5")
@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_later_life_commits_what_an_earlier_one_finished(
    private_engine: Engine,
    private_postgres: EmbeddedPostgres,
    volume: Path,
    end: str,
) -> None:
    """Ended while the server is away, started again when it is back: no handler runs again, every effect once.

    SIGTERM need not wait for the server, which stays away: exit 0, and the log says where the outcomes are.
    """
    engine = private_engine
    worker = _finished_without_a_database(engine, private_postgres, volume)
    worker.process.wait_for_log("work.kept", 20)
    if end == "terminate":
        worker.process.terminate()
        assert worker.process.wait(_ENDED_S) == 0
        assert str(volume) in worker.process.log_text()
    else:
        worker.process.kill()
        worker.process.wait(20)
    private_postgres.start()
    later = _later_life(engine, volume)
    assert engine.settle() == {"done": _N}
    assert set(engine.seen().values()) == {1}
    _each_effect_once(engine)
    ((owner,),) = engine.ask("SELECT DISTINCT split_part(owner, ':', 2) FROM rpa.chunk_done")
    assert owner == str(worker.process.pid), "committed under the lease of the one that did the work"
    assert later.metric('rpa_records_total{flow="act",outcome="done"}') == _N
    later.process.terminate()
    assert later.process.wait(20) == 0
    assert _waiting(volume) == 0


@pytest.mark.requirement("R8.1", "R8.2")
def test_a_lease_that_was_taken_over_is_not_completed_again(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Another worker, that cannot see the volume, does the records first: what was kept is discarded, and said so."""
    engine = private_engine
    worker = _finished_without_a_database(engine, private_postgres, volume, lease_ttl=1)
    worker.process.wait_for_log("work.kept", 20)
    worker.process.kill()
    worker.process.wait(20)
    private_postgres.start()
    other = engine.start("EFFECTS", lease_ttl=1)
    assert engine.settle() == {"done": _N}
    later = _later_life(engine, volume, lease_ttl=1)
    until(lambda: later.metric(_LOST) == _N, 20, "the loss to be told", later.process.log_text)
    assert "are discarded" in later.process.log_text()
    _each_effect_once(engine)
    ((owner,),) = engine.ask("SELECT DISTINCT split_part(owner, ':', 2) FROM rpa.chunk_done")
    assert owner == str(other.process.pid)
    later.process.terminate()
    assert later.process.wait(20) == 0
    assert _waiting(volume) == 0


@pytest.mark.requirement("R8.1", "R8.2", "R3.3")
def test_work_of_an_owner_that_only_sleeps_is_left_to_it(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """Stopped with its work kept: nobody adopts its spool; it is overtaken, finds out when it wakes, and works on."""
    engine = private_engine
    sleeper = _finished_without_a_database(engine, private_postgres, volume, lease_ttl=1)
    sleeper.process.wait_for_log("work.kept", 20)
    kept = engine.seen()
    sleeper.process.stop_cont()
    private_postgres.start()
    other = _later_life(engine, volume, lease_ttl=1)
    assert engine.settle() == {"done": _N}
    assert "spool.adopted" not in other.process.log_text()
    assert {number for number, times in engine.seen().items() if times == 2} == set(kept), "worked out anew"
    sleeper.process.cont()
    until(lambda: sleeper.metric(_LOST) == _N, 20, "the sleeper to notice", sleeper.process.log_text)
    _each_effect_once(engine)
    for worker in (sleeper, other):
        worker.process.terminate()
        assert worker.process.wait(20) == 0
    assert _waiting(volume) == 0


@pytest.mark.requirement("R8.1", "R8.2")
@pytest.mark.parametrize("point", ["results-written", "committed"])
def test_a_crash_while_completing_late_repeats_nothing(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path, point: str
) -> None:
    """The life that adopted it dies before its COMMIT, or between it and the acknowledgement: the next one goes on."""
    engine = private_engine
    worker = _finished_without_a_database(engine, private_postgres, volume)
    worker.process.wait_for_log("work.kept", 20)
    worker.process.kill()
    worker.process.wait(20)
    private_postgres.start()
    second = _later_life(engine, volume, checkpoint=f"{point}:1:kill")
    assert second.process.wait(20) == -9
    assert _waiting(volume) == 1, "not acknowledged"
    assert engine.done() == (_N if point == "committed" else 0)
    third = _later_life(engine, volume)
    third.wait_started()
    assert engine.settle() == {"done": _N}
    assert set(engine.seen().values()) == {1}
    _each_effect_once(engine)
    third.process.terminate()
    assert third.process.wait(20) == 0
    assert _waiting(volume) == 0


@pytest.mark.requirement("R8.1", "R8.2")
@pytest.mark.parametrize(("point", "times"), [("keeping", 2), ("kept", 1)])
def test_a_crash_while_keeping_loses_nothing(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path, point: str, times: int
) -> None:
    """Killed before the work was on the disk: it is worked out again. Killed after: it is not."""
    engine = private_engine
    worker = _finished_without_a_database(engine, private_postgres, volume, checkpoint=f"{point}:1:kill", lease_ttl=3)
    assert worker.process.wait(20) == -9
    private_postgres.start()
    _later_life(engine, volume, lease_ttl=3)
    assert engine.settle() == {"done": _N}
    assert set(engine.seen().values()) == {times}
    _each_effect_once(engine)


@pytest.mark.requirement("R8.1", "R2.5")
def test_a_worker_that_lives_completes_its_own(
    private_engine: Engine, private_postgres: EmbeddedPostgres, volume: Path
) -> None:
    """The server comes back in time: the worker commits from memory, and the spool is empty again."""
    engine = private_engine
    worker = _finished_without_a_database(engine, private_postgres, volume)
    worker.process.wait_for_log("work.kept", 20)
    private_postgres.start()
    assert engine.settle() == {"done": _N}
    assert set(engine.seen().values()) == {1}
    _each_effect_once(engine)
    entries = 'rpa_spool_entries{kind="finished"}'
    until(lambda: worker.metric(entries) == 0, 20, "the entry to be let go", worker.process.log_text)
    worker.process.kill()
    worker.process.wait(20)
    assert _waiting(volume) == 0
