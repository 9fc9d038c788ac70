"""Records that kill the process: found, set aside, and nobody else with them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from rpa_testkit.waits import until

from .engine import Engine, Running


class Supervisor:
    """A restart policy: whoever was killed is started again."""

    def __init__(self, start: Callable[[], Running]) -> None:
        self._start = start
        self._worker = start()
        self.crashes = 0

    def look(self) -> None:
        """Start the worker again if it is gone."""
        code = self._worker.process.returncode
        if code is not None:
            assert code == -signal.SIGKILL, self._worker.process.log_text()
            self.crashes += 1
            self._worker = self._start()


def _settle(engine: Engine, *supervisors: Supervisor, timeout_s: float = 60) -> None:
    def settled() -> bool:
        for supervisor in supervisors:
            supervisor.look()
        return engine.unfinished() == 0

    until(settled, timeout_s, "all records to have an outcome", engine.describe)


@pytest.mark.slow
@pytest.mark.requirement("R8.7", "R8.2")
@pytest.mark.parametrize(
    ("flow", "n", "chunk_size", "poison"),
    [
        ("ACT", 300, 1000, 137),
        ("BATCH", 300, 1000, 299),
    ],
)
def test_a_record_that_kills_the_process_is_set_aside_alone(
    engine: Engine, flow: str, n: int, chunk_size: int, poison: int, record_property: Callable[[str, object], None]
) -> None:
    """Wherever it stands and however records are chunked: it ends as a crash, everybody else is done."""
    engine.enqueue(
        ({"n": number, "do": "kill" if number == poison else "done"} for number in range(n)), chunk_size=chunk_size
    )
    supervisor = Supervisor(lambda: engine.start(flow, lease_ttl=1))
    _settle(engine, supervisor)
    assert engine.places() == {"done": n - 1, "dead": 1}
    kind, tries, reasons = engine.dead_letters()[poison]
    assert (kind, tries) == ("crash", 3)
    assert "ended 3 times while this record was in process" in reasons[0]
    record_property("crashes", supervisor.crashes)
    assert supervisor.crashes <= 5  # unsuspected, noted, and max_claims alone


@pytest.mark.slow
@pytest.mark.requirement("R8.7", "R8.2", "R5.4")
def test_many_small_chunks_do_not_go_down_with_one_record(engine: Engine) -> None:
    """Chunks of one record, two workers that claim many at once: what one of them does counts against it alone."""
    engine.enqueue(({"n": number, "do": "kill" if number == 60 else "done"} for number in range(80)), chunk_size=1)
    supervisors = [Supervisor(lambda: engine.start(lease_ttl=1)) for _ in range(2)]
    _settle(engine, *supervisors)
    assert engine.places() == {"done": 79, "dead": 1}
    assert engine.dead_letters()[60][0] == "crash"
    assert sum(supervisor.crashes for supervisor in supervisors) <= 5
