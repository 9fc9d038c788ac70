"""The disk that a worker writes to is filled: it pauses, says so to Alertmanager, and goes on by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.drivers.process.small_disk import SmallDisk, small_disk
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.waits import until

from .engine import FLOWS, Engine, Running
from .proofs import settled_once
from .receivers import Receiver


@pytest.fixture
def disk(tmp_path: Path) -> SmallDisk:
    """16 MiB that one process has to itself."""
    try:
        return small_disk(tmp_path / "disk")
    except NotPossible as error:
        pytest.skip(str(error))


@pytest.fixture
def alertmanager() -> Iterator[Receiver]:
    """What stands in for Alertmanager."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def _told(receiver: Receiver) -> list[dict[str, Any]]:
    return [alert for alert in receiver.alerts() if alert["labels"]["alertname"] == "DiskLow"]


def _open(receiver: Receiver) -> bool:
    """Whether the last word was that the disk is low: what is over ends when it is told, the other half an hour on."""
    ends = [(alert["startsAt"], alert["endsAt"]) for alert in _told(receiver)]
    return bool(ends) and ends[-1][1] == max(end for start, end in ends if start == ends[-1][0])


@pytest.mark.slow
@pytest.mark.requirement("R8.4", "R6.5", "R8.5")
def test_a_filled_disk_pauses_the_worker_tells_and_lets_it_go_on(
    engine: Engine,
    worker_process: WorkerProcesses,
    disk: SmallDisk,
    alertmanager: Receiver,
    counted: Callable[[int, int], int],
) -> None:
    """Filled to the last byte again and again: nothing is claimed meanwhile, it stays live, and nothing is lost."""
    engine.make_effect_table()
    variables = engine.environment(alertmanager_urls=alertmanager.url, disk_interval=0.2, claim_records=20)
    worker = Running(
        worker_process(
            "",
            variables | dict(disk.environment()),
            pythonpath=FLOWS,
            argv=disk.argv([sys.executable, "-m", "rpa_testkit.worker", "worker_flows:EFFECTS"]),
        )
    )
    worker.wait_started()
    n = 0
    for round_ in range(counted(2, 3)):
        engine.enqueue(({"n": number, "ms": 2} for number in range(n, n + 600)), chunk_size=20, key=f"from{n}-")
        n += 600
        begun = engine.done()
        until(lambda: engine.done() > begun + 50, 20, "it to work", engine.describe)  # noqa: B023 - called here
        disk.fill(worker.process.pid)
        closed, opened = "gate.closed", "gate.opened"
        until(lambda: worker.process.log_text().count(closed) > round_, 20, "the pause", engine.describe)  # noqa: B023
        until(lambda: _open(alertmanager), 20, "the alert", worker.process.log_text)
        until(lambda: engine.ask("SELECT count(*) FROM rpa.chunk WHERE state = 'l'") == [(0,)], 20, "it to finish")
        done = engine.done()
        assert done < n
        looks = iter(range(10))
        until(lambda: next(looks) == 9, 20, "some time without work", every_s=0.1)  # noqa: B023 - called here
        assert engine.done() == done
        assert worker.get("/health/live").status == 200
        disk.give_back(worker.process.pid)
        until(lambda: worker.process.log_text().count(opened) > round_, 20, "it to go on", engine.describe)  # noqa: B023
        until(lambda: not _open(alertmanager), 20, "the alert to end", worker.process.log_text)
        assert engine.settle(60) == {"done": n}
    settled_once(engine, n)
    worker.process.terminate()
    assert worker.process.wait(20) == 0
