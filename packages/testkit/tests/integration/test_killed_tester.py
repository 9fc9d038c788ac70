"""The tester is killed in the middle of a run: nothing of the run may stay."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rpa_testkit.waits import until

_MARK = "RPA_KILLED_TESTER"
_GONE_S = 15.0
_FOR_THE_NEXT = ("rpa-testkit-data-", "rpa-testkit-postgres-")  # what every PostgreSQL is copied from


@pytest.fixture
def mark(open_folder: Path) -> Iterator[str]:
    """What every process of this test's testers carries; none is left whatever the test's end."""
    made = uuid.uuid4().hex
    yield made
    for process in _left(made, open_folder):
        process.kill()


def _left(mark: str, folder: Path) -> list[psutil.Process]:
    """Processes that inherited the mark, or work in the folder (PostgreSQL gets no environment of ours)."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(_MARK) == mark or str(folder) in " ".join(process.cmdline())
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.requirement("R3.3", "R9.3")
def test_nothing_is_left_of_a_killed_tester(open_folder: Path, mark: str, counted: Callable[[int, int], int]) -> None:
    """SIGKILL at random moments, from the first import to the middle of the faults: 15 s later all is gone."""
    rand = random.Random(20)
    for point in range(counted(3, 50)):
        temporary = open_folder / f"tmp-{point}"
        temporary.mkdir()
        temporary.chmod(0o755)
        command = [sys.executable, "-m", "rpa_testkit.cli.main", "run", "processes", "--seed", str(point)]
        with (open_folder / f"tester-{point}.log").open("wb") as log:
            tester = subprocess.Popen(
                [*command, "--reports", str(open_folder / "reports")],
                env={**os.environ, _MARK: mark, "TMPDIR": str(temporary)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        threading.Event().wait(rand.uniform(0.2, 12.0))  # the moment is what is random here
        tester.send_signal(signal.SIGKILL)
        tester.wait()
        until(
            lambda: not _left(mark, open_folder),
            _GONE_S,
            f"everything of tester {point} to be gone",
            lambda: "\n".join(f"{p.pid} {p.cmdline()}" for p in _left(mark, open_folder)),
            every_s=0.2,
        )
        left = {path.name for path in temporary.iterdir() if not path.name.startswith(_FOR_THE_NEXT)}
        assert not left, f"tester {point} left files behind"
