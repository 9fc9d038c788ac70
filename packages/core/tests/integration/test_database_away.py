"""PostgreSQL is away for a minute, refusing connections or not answering them: a worker is calm, alive, and back soon.

Attempts are counted where they arrive, at a proxy before the server. The short form of the proof takes a third of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg
import pytest

from rpa_core.store.database import Database
from rpa_core.store.lines import LineWatch
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.proxy.rules import Rule
from rpa_testkit.waits import until

from .engine import Engine, Running

SETTLING_S = 8.0  # at first looks are closer together
ONE_MORE = 1  # an attempt that is counted at both of its ends
BACK_S = 20.0  # far from the minute: what waits longer and longer would look again about as late as that
Record = Callable[[str, object], None]
Counted = Callable[[int, int], int]
RULES = {"refused": Rule(refuse=True), "silent": Rule(stall=True)}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy of this test's own."""
    with Proxy.spawn(seed=1, env={}) as made:
        yield made


@dataclass
class Line:
    """A worker's way to the server, which can be cut, and what the worker does meanwhile."""

    proxy: Proxy
    name: str
    dsn: str
    worker: Running | None = None
    lives: list[int] = field(default_factory=list)

    def cut(self) -> None:
        """No connection stands and none can be made."""
        self.proxy.set_rule(self.name, RULES[self.name])
        self.proxy.reset(self.name)

    def mend(self) -> None:
        """From now on connections can be made; those that were never answered are not."""
        self.proxy.reset(self.name)
        self.proxy.clear(self.name)

    def attempts(self) -> int:
        """Connections that were tried so far."""
        stats = self.proxy.stats(self.name)
        return stats.accepted + stats.refused


def _lines(engine: Engine, proxy: Proxy) -> list[Line]:
    where = urlsplit(engine.dsn)
    assert where.hostname is not None
    assert where.port is not None
    lines = []
    for name in RULES:
        port = proxy.open_edge(name, (where.hostname, where.port))
        lines.append(Line(proxy, name, engine.dsn.replace(f":{where.port}", f":{port}")))
    return lines


@contextmanager
def _probed(lines: list[Line]) -> Iterator[None]:
    """Liveness of all workers, asked all the time from another thread."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            for line in lines:
                assert line.worker is not None
                line.lives.append(line.worker.get("/health/live").status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _steady(lines: list[Line], away_s: float) -> dict[str, float]:
    """Attempts per second once the first quick looks are over, until the minute is."""
    over = threading.Event()
    over.wait(SETTLING_S)
    before, began = {line.name: line.attempts() for line in lines}, time.monotonic()
    over.wait(away_s - SETTLING_S)
    taken_s = time.monotonic() - began
    return {line.name: (line.attempts() - before[line.name]) / taken_s for line in lines}


def _alive(lines: list[Line], away_s: float) -> None:
    for line in lines:
        assert line.worker is not None
        assert line.worker.process.running, line.worker.process.log_text()
        assert set(line.lives) == {200}, f"{line.name}: {set(line.lives)}"
        assert len(line.lives) > away_s


@pytest.mark.slow
@pytest.mark.requirement("R2.1", "R2.2", "R2.4", "R2.5", "R8.1")
def test_a_minute_away_at_the_start(engine: Engine, proxy: Proxy, counted: Counted, record_property: Record) -> None:
    """Workers started before their server: no exit, liveness 200, one attempt a second, at work soon after."""
    lines, away_s = _lines(engine, proxy), counted(20, 60)
    engine.enqueue([{"n": number} for number in range(20)])
    for line in lines:
        line.cut()
        line.worker = engine.run_command(database_rpa_db_url=line.dsn)
        line.worker.process.wait_for_log("waiting for database rpa_db", 30)
    with _probed(lines):
        rates = _steady(lines, away_s)
        for line in lines:
            line.mend()
        mended = time.monotonic()
        for line in lines:
            assert line.worker is not None
            line.worker.process.wait_for_log("worker.started", 60)
        took_s = time.monotonic() - mended
        assert engine.settle() == {"done": 20}
    record_property("measured", f"attempts per second {rates}, started {took_s:.1f} s after the return")
    _alive(lines, away_s)
    most = 1 + ONE_MORE / (away_s - SETTLING_S)
    assert all(0.05 < rate <= most for rate in rates.values()), rates
    assert took_s <= BACK_S


@pytest.mark.slow
@pytest.mark.requirement("R2.2", "R2.4", "R2.5", "R3.3", "R8.1", "R8.2")
def test_a_minute_away_under_load(engine: Engine, proxy: Proxy, counted: Counted, record_property: Record) -> None:
    """Workers cut off in the middle of their work: the same, and in the end every effect is there once."""
    lines, away_s = _lines(engine, proxy), counted(20, 60)
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 2} for number in range(8000)), chunk_size=100)
    for line in lines:
        line.worker = engine.start("EFFECTS", database_rpa_db_url=line.dsn, claim_records=200, lease_ttl=2)
    until(lambda: engine.done() >= 800, 30, "some to be done", engine.describe)
    with _probed(lines):
        for line in lines:
            line.cut()
        rates = _steady(lines, away_s)
        done = engine.done()
        assert done < 8000
        for line in lines:
            line.mend()
        mended = time.monotonic()
        for line in lines:
            assert line.worker is not None
            line.worker.process.wait_for_log("database is back", 60)
        until(lambda: engine.done() > done, 60, "work to go on", engine.describe)
        took_s = time.monotonic() - mended
        assert engine.settle(60) == {"done": 8000}
    record_property("measured", f"attempts per second {rates}, work {took_s:.1f} s after the return")
    _alive(lines, away_s)
    most = 1 + ONE_MORE / (away_s - SETTLING_S)
    assert all(0.05 < rate <= most for rate in rates.values()), rates
    assert took_s <= BACK_S
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == 8000


@pytest.mark.slow
@pytest.mark.requirement("R2.2", "R2.5", "R3.3", "R8.1", "R8.2")
def test_a_server_that_falls_silent_under_load(engine: Engine, proxy: Proxy, counted: Counted) -> None:
    """Connections stand and no answer comes, for longer than a heartbeat may be old: cut, waited for, gone on."""
    line, silent_s = _lines(engine, proxy)[1], counted(16, 30)
    engine.make_effect_table()
    engine.enqueue(({"n": number, "ms": 2} for number in range(3000)), chunk_size=100)
    worker = line.worker = engine.start(
        "EFFECTS", database_rpa_db_url=line.dsn, claim_records=200, lease_ttl=2, health_heartbeat_max_age=25
    )
    until(lambda: engine.done() >= 400, 30, "some to be done", engine.describe)
    with _probed([line]):
        proxy.set_rule(line.name, Rule(stall=True))
        worker.process.wait_for_log("store.line_cut", 30)
        before = line.attempts()
        threading.Event().wait(silent_s)
        assert line.attempts() - before <= silent_s
        line.mend()
        worker.process.wait_for_log("database is back", 60)
        assert engine.settle(60) == {"done": 3000}
    assert worker.process.running
    assert set(line.lives) == {200}
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == 3000


@pytest.mark.slow
@pytest.mark.requirement("R2.2", "R3.3")
def test_a_slow_statement_is_left_alone_and_a_dead_line_is_not(engine: Engine, proxy: Proxy) -> None:
    """Asked for longer than any answer is waited for: the server says which of both it is."""
    line = _lines(engine, proxy)[1]
    database = Database("rpa_db", line.dsn)
    watch = LineWatch("rpa_db", database.open_lines, database.running, owed_s=0.2)
    slow = database.connect(application_name="slow")
    ended: list[object] = []

    def ask() -> None:
        try:
            ended.append(slow.execute("SELECT pg_sleep(4)").fetchone())
        except psycopg.OperationalError as error:
            ended.append(error)

    for dead in (False, True):
        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: slow.owed_since is not None, 20, "the statement to be under way")
        threading.Event().wait(0.5)
        assert watch.look() == 0
        if dead:  # the server's side goes, ours does not hear of it
            proxy.half_open(line.name)
            until(lambda: watch.look() == 1, 20, "the server to be through with it, and the line to be cut")
        thread.join(10)
        assert not thread.is_alive()
    assert ended[0] == ("",)
    assert isinstance(ended[1], psycopg.OperationalError)
