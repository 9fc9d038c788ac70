"""SIGTERM under full load, again and again: not ready meanwhile, ended in time, nothing lost and nothing twice."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable

import pytest

from rpa_testkit.ports import HOST
from rpa_testkit.waits import until

from .engine import Engine, Running
from .proofs import Feeder, settled_once

_TOGETHER = 5
_GRACE_S = 10


class Asking:
    """Asks for readiness over one connection that is kept alive, all the time, until it fails."""

    def __init__(self, worker: Running) -> None:
        self.failed = False
        self.answers = 0
        self._connection = http.client.HTTPConnection(HOST, worker.port, timeout=20)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until readiness has failed, which it must do while there is somebody to answer."""
        self._thread.join(timeout_s)
        assert self.failed, f"still ready after {self.answers} answers"

    def _run(self) -> None:
        try:
            while not self.failed:
                self._connection.request("GET", "/health/ready")
                answer = self._connection.getresponse()
                answer.read()
                self.answers += 1
                self.failed = answer.status == 503
        finally:
            self._connection.close()


@pytest.mark.slow
@pytest.mark.requirement("R5.5", "R5.1", "R3.1")
def test_fifty_drains_under_full_load(
    engine: Engine, counted: Callable[[int, int], int], record_property: Callable[[str, object], None]
) -> None:
    """Readiness 503 before each end, exit 0 within the grace, every record handled and committed once."""
    rand = random.Random(50)
    engine.make_effect_table()
    drained_s: list[float] = []
    with Feeder(engine, lambda n: {"n": n, "ms": 1}, least=1500, chunk_size=100) as feeder:
        while len(drained_s) < counted(15, 50):
            workers = [
                engine.start("EFFECTS", claim_records=200, shutdown_timeout=_GRACE_S - 2, stop_grace=_GRACE_S)
                for _ in range(_TOGETHER)
            ]
            for worker in workers:
                worker.wait_started()
            for worker in workers:
                claims = 'rpa_claims_total{flow="act",result="claimed"}'
                until(lambda: worker.metric(claims) > 0, 20, "it to work", worker.process.log_text)  # noqa: B023 - now
                enough = sum(engine.seen().values()) + rand.randrange(50)
                until(lambda: sum(engine.seen().values()) >= enough, 20, "more work", engine.describe)  # noqa: B023 - now
                asking = Asking(worker)
                until(lambda: asking.answers > 3, 20, "answers")  # noqa: B023 - now
                told = time.monotonic()
                worker.process.terminate()
                asking.wait(20)
                assert worker.process.wait(_GRACE_S) == 0, worker.process.log_text()
                drained_s.append(time.monotonic() - told)
        last = engine.start("EFFECTS", claim_records=1000)
    settled_once(engine, feeder.n, timeout_s=120)
    last.process.terminate()
    assert last.process.wait(20) == 0
    record_property("drained_s_max", round(max(drained_s), 2))
    record_property("records", feeder.n)
    assert max(drained_s) < _GRACE_S
    assert set(engine.seen().values()) == {1}
    assert engine.ask("SELECT max(attempts) FROM rpa.chunk_done") == [(1,)]
