"""SIGKILL at every named point: another worker goes on, and each record ends up with one outcome."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from rpa_testkit.waits import until

from .engine import Engine, Running

_N = 240
_TTL_S = 1.5


def _killed_at(engine: Engine, checkpoint: str, flow: str = "EFFECTS", n: int = _N) -> Running:
    """A worker that was killed at the checkpoint, with records in its hands."""
    engine.make_effect_table()
    engine.enqueue({"n": number} for number in range(n))
    worker = engine.start(flow, checkpoint=f"{checkpoint}:1:kill", lease_ttl=_TTL_S)
    worker.process.wait_reached(20)
    assert worker.process.wait(20) == -signal.SIGKILL
    return worker


def _late_by_s(engine: Engine) -> float:
    """Seconds between the end of the lease that a killed worker left and the first completion after it."""
    ((late_s,),) = engine.ask(
        "SELECT extract(epoch FROM min(done_at) - min(lease_until))::float8 FROM rpa.chunk_done, public.left_behind"
    )
    return float(late_s)


@pytest.mark.requirement("R8.2", "R3.3")
@pytest.mark.parametrize("point", ["claimed", "mid-batch", "handled", "results-written"])
def test_what_a_killed_worker_held_is_done_by_another(
    engine: Engine, point: str, record_property: Callable[[str, object], None]
) -> None:
    """Before the commit nothing was written: the lease runs out, another worker does it all, once."""
    _killed_at(engine, point)
    assert engine.places() == {"unfinished": _N}
    assert engine.effects() == {}
    engine.ask("CREATE TABLE public.left_behind AS SELECT lease_until FROM rpa.chunk")
    engine.start("EFFECTS", lease_ttl=_TTL_S)
    assert engine.settle() == {"done": _N}
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == _N
    late_s = _late_by_s(engine)
    record_property("taken_over_late_s", round(late_s, 2))
    assert late_s > -0.1, "taken over before the lease had run out"
    seen = engine.seen()
    again = {"claimed": 0, "mid-batch": _N // 2}.get(
        point, _N
    )  # what the killed one had handled, it handled for nothing
    assert sum(seen.values()) == _N + again
    assert max(seen.values()) == (1 if point == "claimed" else 2)


@pytest.mark.requirement("R8.2", "R3.3")
def test_what_was_committed_before_the_kill_is_not_done_again(engine: Engine) -> None:
    """Killed after the commit, before anyone heard of it: every handler and every effect ran once."""
    _killed_at(engine, "committed")
    assert engine.places() == {"done": _N}
    worker = engine.start("EFFECTS", lease_ttl=_TTL_S)
    worker.wait_started()
    until(lambda: worker.metric('rpa_claims_total{flow="act",result="empty"}') > 0, 20, "an empty claim")
    assert engine.settle() == {"done": _N}
    assert set(engine.seen().values()) == {1}
    assert set(engine.effects().values()) == {1}


@pytest.mark.requirement("R8.2")
def test_an_effect_outside_the_ledger_has_the_same_key_at_each_attempt(engine: Engine) -> None:
    """Killed between an effect of the flow's own and its outcome: the record is handled again, under the same id."""
    _killed_at(engine, "flow-effect-done", "OUTSIDE", n=20)
    engine.start("OUTSIDE", lease_ttl=_TTL_S)
    assert engine.settle() == {"done": 20}
    assert sorted(engine.seen().values()) == [1] * 19 + [2]


@pytest.mark.requirement("R5.4", "R3.1", "R8.2")
def test_kills_all_along_lose_and_repeat_nothing(engine: Engine) -> None:
    """Three workers at each of whose points another one is killed and started again: 6,000 records, one effect each."""
    engine.make_effect_table()
    engine.enqueue(({"n": number} for number in range(6000)), chunk_size=200)
    arms = ["results-written:2:kill", "mid-batch:3:kill", "handled:2:kill", "claimed:4:kill"]
    workers = [engine.start("EFFECTS", checkpoint=arm, lease_ttl=1, claim_records=400) for arm in arms]
    survivor: list[Running] = []

    def settled() -> bool:
        if not survivor and not all(worker.process.running for worker in workers):
            survivor.append(engine.start("EFFECTS", lease_ttl=1, claim_records=400))
        return engine.unfinished() == 0

    until(settled, 40, "every record to have an outcome", engine.describe)
    assert sum(worker.process.returncode == -signal.SIGKILL for worker in workers) >= 1
    assert engine.places() == {"done": 6000}
    effects = engine.effects()
    assert len(effects) == 6000
    assert set(effects.values()) == {1}
