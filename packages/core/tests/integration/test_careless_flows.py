"""Whatever a flow's author writes: every record in exactly one place, none blamed for another, the right exit code."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from rpa_core.processing.flow import Flow, FlowContext
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_core.store.ledger import Ledger

from . import careless_flows as careless
from .engine import Engine

_POLICY = WorkerPolicy(
    retry=RetryPolicy(max_attempts=2, base_s=0.001, cap_s=0.002), retry_min_per_s=1e6, poll_max_s=0.01
)
_EFFECT = "CREATE TABLE public.effect (record_id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)"


class _UntilEmpty(Worker):
    """Ends when its flow has nothing left."""

    def _idle(self, wait_s: float) -> None:
        if self.unfinished() == 0:
            self._stop.set()
        super()._idle(wait_s)

    unfinished: Callable[[], int]


def _work_off(engine: Engine, flow: Flow) -> None:
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner()) if flow.is_async else None
        worker = _UntilEmpty(
            flow=flow,
            context=FlowContext(flow=flow.name),
            open_ledger=lambda: Ledger.open(engine.dsn, flow=flow.name, owner="careless", ttl_s=10),
            policy=_POLICY,
            stop=threading.Event(),
            wake=threading.Event(),
            loop=loop,
            seed=1,
        )
        worker.unfinished = lambda: engine.unfinished(flow.name)
        worker.run()


def _judge(engine: Engine, flow: Flow, effects: str | None) -> None:
    """By SQL alone: one place each, the right one, with the right result, and its effect once where it is done."""
    engine.places(flow.name)
    odd = effects is not None and effects in careless.EFFECTS_DEAD
    for record_id, payload, result, kind, reasons in engine.ask(
        "SELECT r.id, r.payload::text, s.data::text, d.kind, d.reasons"
        " FROM rpa.record r JOIN rpa.flow f ON f.id = r.flow"
        " LEFT JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id"
        " LEFT JOIN rpa.dead_letter d ON d.period = r.period AND d.record_id = r.id WHERE f.name = %s",
        flow.name,
    ):
        given = orjson.loads(payload)
        do, n = given.get("do"), given["n"]
        dropped = flow.handle in (careless.drop, careless.by_key) and do is not None
        reused = do == "reuses" and effects is not None
        if do in careless.DEAD or dropped or (odd and n % 3 == 0) or (reused and kind):
            assert kind in {"rejected", "exhausted", "unstorable"}, f"{flow.name}: {payload}: {result}"
            assert reasons
            assert all(reasons)
        else:
            assert (kind, reasons) == (None, None), f"{flow.name}: {payload}: {reasons}"
            assert orjson.loads(result) == {"n": n}
        ((times,),) = engine.ask("SELECT count(*) FROM public.effect WHERE record_id = %s", record_id)
        assert times == (1 if effects and result is not None else 0), f"{flow.name}: {payload}"
    ((wrong,),) = engine.ask(
        "SELECT count(*) FROM rpa.chunk_done c WHERE n_ok <> (SELECT count(*) FROM rpa.result s"
        " WHERE s.period = c.period AND s.chunk_id = c.id)"
    )
    assert wrong == 0


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.requirement("R8.7", "R8.2")
def test_no_careless_flow_loses_a_record_or_blames_another(engine: Engine, counted: Callable[[int, int], int]) -> None:
    """A hundred flows from a generator: each form of handler, with and without effects, each misdeed more than once."""
    engine.ask(_EFFECT)
    logging.getLogger("rpa").setLevel(logging.CRITICAL)
    rand = random.Random(20)
    forms = list(careless.FORMS) * 20
    misdeeds = [*careless.DEAD, *careless.DONE] * 20
    with_effects = [*careless.EFFECTS_DEAD, *careless.EFFECTS_DONE, *[None] * 12] * 20
    try:
        for number in range(counted(25, 100)):
            name = with_effects.pop(0)
            chosen = [misdeeds.pop(0) for _ in range(3)]
            payloads = [{"n": n, "do": do} for n, do in enumerate(chosen, 1)] + [{"n": n} for n in range(4, 9)]
            rand.shuffle(payloads)
            flow = Flow(
                name=f"careless-{number}",
                effects=careless.effects_of(name) if name else None,
                next_flow=rand.choice([None, "shared"]),
                known_key=rand.choice(["keep", "new key"]),
                **careless.FORMS[forms[number]],
            )
            with connect(engine.dsn) as connection, connection.transaction():
                records = [NewRecord(orjson.dumps(payload), f"{number}-{payload['n']}") for payload in payloads]
                enqueue(connection, flow.name, records)
            _work_off(engine, flow)
            _judge(engine, flow, name)
    finally:
        logging.getLogger("rpa").setLevel(logging.NOTSET)


def _run(engine: Engine, flow: str, *options: str, **more: object) -> int | None:
    argv = [sys.executable, "-m", "rpa_core.cli.main", "run", f"careless_flows:{flow}", "--until-empty", *options]
    running = engine._workers(
        "", engine.environment(crash_backoff_max=0, **more), pythonpath=Path(__file__).parent, argv=argv
    )
    return running.wait(60)


@pytest.mark.requirement("R8.7")
def test_no_careless_flow_ends_its_process_by_the_way(engine: Engine) -> None:
    """Exits, forks, threads and children: dead letters or done, exit code 0, and the process does end."""
    deeds = ["exit", "fork", "fork-raise", "thread", "child"]
    engine.enqueue([{"n": n} for n in range(5)] + [{"n": 5 + n, "do": do} for n, do in enumerate(deeds)])
    assert _run(engine, "PROCESS", max_tries=1, shutdown_timeout=2, stop_grace=8) == 0
    assert engine.places() == {"done": 9, "dead": 1}
    assert engine.dead_letters()[5] == ("exhausted", 1, ["gave up after 1 tries: SystemExit: 0"])
    assert "forgotten" in engine._workers.logs()
    assert "sleep 20" in engine._workers.logs()


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("flow", "code", "line"),
    [
        ("OPEN_EXITS", 70, r"flow act cannot be opened: SystemExit: 0"),
        ("OPEN_IS_NOTHING", 70, r"open returned NoneType, not a context manager"),
        ("CLOSE_FAILS", 70, r"flow act cannot be closed: OSError: the last page was not written"),
    ],
)
def test_an_open_that_fails_ends_the_worker_in_its_name(engine: Engine, flow: str, code: int, line: str) -> None:
    """One line that says whose it is, and an exit code that is not 0; what was done before stays done."""
    engine.enqueue({"n": n} for n in range(3))
    assert _run(engine, flow) == code
    assert re.search(line, engine._workers.logs())
    assert engine.places() == ({"done": 3} if flow == "CLOSE_FAILS" else {"unfinished": 3})


@pytest.mark.requirement("R8.7")
def test_a_paused_flow_is_not_waited_for_until_it_is_empty(engine: Engine) -> None:
    """It says how to go on; paused and empty is empty."""
    engine.enqueue({"n": n} for n in range(3))
    engine.ask("UPDATE rpa.flow SET paused = true")
    assert _run(engine, "PROCESS") == 75
    assert "rpa records resume act" in engine._workers.logs()
    assert engine.places() == {"unfinished": 3}
    engine.ask("UPDATE rpa.flow SET paused = false")
    assert _run(engine, "PROCESS") == 0
    engine.ask("UPDATE rpa.flow SET paused = true")
    assert _run(engine, "PROCESS") == 0
