"""SIGKILL at random moments of processes that put and deliver: nothing lost, nothing twice, everything in order."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import Entry
from rpa_testkit.waits import until

from . import spool_program
from .spool_program import KIND, MISTAKES, body_of, receiver, recorder, spools_in


@dataclass(slots=True, kw_only=True)
class Kills:
    """A folder of spools, what its processes reported, and the means to kill one."""

    root: Path
    rand: random.Random
    arguments: Sequence[str] = ()
    count: int = 0
    delay: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        return self.root / "spools"

    @property
    def record(self) -> Path:
        return self.root / "record"

    def lines(self) -> list[tuple[str, str]]:
        """(what, id) in the order in which it happened."""
        if not self.record.exists():
            return []
        return [(line[0], line[2:]) for line in self.record.read_text().splitlines()]

    def kill_one(self) -> None:
        """Start a process, wait for its first words, and kill it some moment later."""
        self.count += 1
        before = self.record.stat().st_size if self.record.exists() else 0
        program = [sys.executable, spool_program.__file__, str(self.folder), str(self.record), f"life{self.count}"]
        with subprocess.Popen([*program, *self.arguments], stderr=subprocess.PIPE) as process:
            try:
                until(
                    lambda: (
                        process.poll() is not None or (self.record.exists() and self.record.stat().st_size > before)
                    ),
                    30,
                    "the process to put something",
                    every_s=0.002,
                )
                self.delay.wait(self.rand.uniform(0, 0.06))
                assert process.poll() is None, process.communicate()[1].decode()
            finally:
                process.kill()

    def waiting(self, spools: Spools) -> list[Entry]:
        """Everything that waits, stream by stream in order."""
        return [entry for spool in spools.adopted() for entry in spool.entries(KIND)]

    def deliver_the_rest(self) -> None:
        """What no process was left to deliver."""
        with closing(spools_in(self.folder, "last")) as spools:
            courier = Courier(KIND, spools.all, receiver(recorder(self.record), 0.0))
            courier.start()
            assert courier.flush(60)
            courier.stop(10)
            assert not any(spool.dead() for spool in spools.all())
            spools.tidy()


def problems(lines: Sequence[tuple[str, str]], waiting: Sequence[Entry]) -> Iterator[str]:
    """What is wrong with what happened, given what still waits."""
    acknowledged: set[str] = set()
    delivered: set[str] = set()
    last: dict[str, int] = defaultdict(lambda: -1)
    for what, name in lines:
        stream, _, number = name.partition(":")
        if what == "X":
            yield f"{name} is not what was put"
        elif what == "A":
            acknowledged.add(name)
        elif what == "D":
            if name in acknowledged:
                yield f"{name} was delivered after its acknowledgement"
            if int(number) not in (last[stream], last[stream] + 1):
                yield f"{name} was delivered after number {last[stream]}"
            last[stream] = int(number)
            delivered.add(name)
    there = [entry.id for entry in waiting]
    for name in acknowledged.intersection(there):
        yield f"{name} waits after its acknowledgement"
    yield from _out_of_order(there)
    for what, name in lines:
        if what == "P" and name not in delivered and name not in there:
            yield f"{name} was put and is gone"
    for entry in waiting:
        if entry.body != body_of(entry.id):
            yield f"{entry.id} is not what was put"


def _out_of_order(names: Sequence[str]) -> Iterator[str]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        stream, _, number = name.partition(":")
        numbers[stream].append(int(number))
    for stream, found in numbers.items():
        if found != list(range(found[0], found[0] + len(found))):
            yield f"{stream} holds {found}"


@pytest.mark.requirement("R2.3", "R8.3")
@pytest.mark.slow
def test_a_process_that_puts_is_killed_again_and_again(tmp_path: Path, counted: Callable[[int, int], int]) -> None:
    """A hundred times in full: every file opens, and holds every put that had returned, whole and in order."""
    rand = random.Random(5)
    for kill in range(counted(25, 100)):
        kills = Kills(root=tmp_path / str(kill), rand=rand)
        kills.root.mkdir()
        kills.kill_one()
        with closing(spools_in(kills.folder, "look")) as spools:
            assert len(spools.adopted()) == 1
            assert not spools.adopted()[0].dead()
            waiting = kills.waiting(spools)
        assert waiting
        assert list(problems(kills.lines(), waiting)) == []
        assert not list(kills.folder.glob("*.damaged-*"))


@pytest.mark.requirement("R2.3", "R8.3")
@pytest.mark.slow
def test_a_process_that_delivers_is_killed_again_and_again(tmp_path: Path, counted: Callable[[int, int], int]) -> None:
    """Each life adopts what the earlier ones left: all that was put arrives, in order, and not after its receipt."""
    times = counted(25, 100)
    kills = Kills(root=tmp_path, rand=random.Random(6), arguments=["--deliver"])
    for _ in range(times):
        kills.kill_one()
        if kills.count % 10 == 0:
            with closing(spools_in(kills.folder, "look")) as spools:
                assert list(problems(kills.lines(), kills.waiting(spools))) == []
    kills.deliver_the_rest()
    lines = kills.lines()
    assert list(problems(lines, [])) == []
    assert not list(kills.folder.iterdir())
    put, acknowledged = ({name for what, name in lines if what == kind} for kind in "PA")
    assert len(put) > times
    assert len(acknowledged) > times


@pytest.mark.requirement("R2.3")
@pytest.mark.slow
@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_the_check_finds_mistakes(mistake: str, tmp_path: Path) -> None:
    """A spool that forgets, disorders or repeats is found out within some kills."""
    kills = Kills(root=tmp_path, rand=random.Random(7), arguments=["--deliver", "--mistake", mistake])
    for _ in range(30):
        kills.kill_one()
        with closing(spools_in(kills.folder, "look")) as spools:
            found = list(problems(kills.lines(), kills.waiting(spools)))
        if found:
            return
    pytest.fail(f"{mistake} was not noticed in {kills.count} kills")
