"""SIGTERM under full load, fifty times: not ready at once, ended in time, nothing lost and nothing twice."""

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
_NOT_READY_S = 0.1


class Asking:
    """Asks for readiness over one connection that is kept alive, all the time; when it first failed is kept."""

    def __init__(self, worker: Running) -> None:
        self.failed_at: float | None = None
        self.answers = 0
        self._connection = http.client.HTTPConnection(HOST, worker.port, timeout=5)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> float:
        """When readiness failed, on the monotonic clock."""
        self._thread.join(timeout_s)
        assert self.failed_at is not None, f"still ready after {self.answers} answers"
        return self.failed_at

    def _run(self) -> None:
        try:
            while self.failed_at is None:
                self._connection.request("GET", "/health/ready")
                answer = self._connection.getresponse()
                answer.read()
                self.answers += 1
                if answer.status == 503:
                    self.failed_at = time.monotonic()
        finally:
            self._connection.close()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.requirement("R5.5", "R5.1", "R3.1")
def test_fifty_drains_under_full_load(
    engine: Engine, counted: Callable[[int], int], record_property: Callable[[str, object], None]
) -> None:
    """Readiness 503 within 100 ms each time, exit 0 within the grace, every record handled and committed once."""
    rand = random.Random(50)
    engine.make_effect_table()
    not_ready_s: list[float] = []
    drained_s: list[float] = []
    with Feeder(engine, lambda n: {"n": n, "ms": 1}, least=1500, chunk_size=100) as feeder:
        while len(not_ready_s) < counted(50):
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
                until(lambda: asking.answers > 3, 5, "answers")  # noqa: B023 - now
                told = time.monotonic()
                worker.process.terminate()
                not_ready_s.append(asking.wait(5) - told)
                assert worker.process.wait(_GRACE_S) == 0, worker.process.log_text()
                drained_s.append(time.monotonic() - told)
        last = engine.start("EFFECTS", claim_records=1000)
    settled_once(engine, feeder.n, timeout_s=120)
    last.process.terminate()
    assert last.process.wait(20) == 0
    record_property("not_ready_ms_max", round(max(not_ready_s) * 1000, 1))
    record_property("not_ready_ms_p50", round(sorted(not_ready_s)[len(not_ready_s) // 2] * 1000, 1))
    record_property("drained_s_max", round(max(drained_s), 2))
    record_property("records", feeder.n)
    assert max(not_ready_s) < _NOT_READY_S
    assert max(drained_s) < _GRACE_S
    assert set(engine.seen().values()) == {1}
    assert engine.ask("SELECT max(attempts) FROM rpa.chunk_done") == [(1,)]
