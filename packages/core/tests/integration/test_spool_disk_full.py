"""A real disk that is full: each kind behaves as the package's table says, and goes on when there is room."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import New, SpoolFull

MIB = 2**20
RESERVE = 256 * 1024
BODY = b"x" * 3000


class Disk:
    """A file system of two MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spools = path / "spools"
        self._filler = path / "filler"

    def fill(self) -> None:
        """To the last byte."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                try:
                    while file.write(b"f" * size) == size:
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        self._filler.unlink()

    def free_bytes(self) -> int:
        space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def begin(disk: Disk, incarnation: str) -> Spools:
    return open_spools(
        disk.spools,
        flow="f",
        label="l",
        incarnation=incarnation,
        max_bytes=64 * MIB,
        max_age_s=3600,
        reserve_bytes=RESERVE,
    )


def put_until_refused(spools: Spools, kind: str) -> list[str]:
    """The ids of those that were taken."""
    taken: list[str] = []
    while len(taken) < 2000:
        name = f"{kind}{len(taken)}"
        try:
            spools.own.put(New(name, kind, "s", BODY))
        except SpoolFull:
            return taken
        taken.append(name)
    raise AssertionError("the disk never became full")


@pytest.mark.requirement("R8.4", "R6.5")
def test_a_full_disk(disk: Disk) -> None:
    """Intake and finished work are refused, logs dropped, states, alerts and receipts written out of the reserve."""
    with closing(begin(disk, "a")) as spools:
        own = spools.own
        intake = put_until_refused(spools, "intake")
        assert len(intake) > 100
        disk.fill()
        assert put_until_refused(spools, "finished") == []
        reserve = disk.spools / "f.l.a.spool-reserve"
        assert reserve.stat().st_size == RESERVE

        own.put(New("log", "prefect", "run", BODY, keep=False))
        assert (own.depth("prefect").entries, own.depth("prefect").dropped) == (0, 1)
        assert reserve.exists()
        own.put(New("state", "prefect", "run", BODY), New("log 2", "prefect", "run", BODY, keep=False))
        assert [entry.id for entry in own.entries("prefect")] == ["state"]
        assert own.depth("prefect").dropped == 2
        assert not reserve.exists()
        own.put(New("alert", "alert", "a", BODY))

        spools.tidy()
        assert not reserve.exists()

        for name in (*intake, "state"):
            own.acknowledge(name)
        assert [entry.id for kind in spools.kinds for entry in own.entries(kind)] == ["alert"]
        spools.tidy()  # what was delivered is room again
        assert reserve.stat().st_size == RESERVE
        disk.clear()
        own.put(New("again", "intake", "s", BODY))
    with closing(begin(disk, "b")) as later:
        assert [entry.id for spool in later.adopted() for entry in spool.entries("intake")] == ["again"]


@pytest.mark.requirement("R8.4")
def test_a_receipt_on_a_full_disk_is_for_good(disk: Disk) -> None:
    """What was acknowledged while the disk was full does not come back in the next life, nor is anything else lost."""
    with closing(begin(disk, "a")) as spools:
        intake = put_until_refused(spools, "intake")
        disk.fill()
        gone, left = intake[: len(intake) // 2], intake[len(intake) // 2 :]
        for name in gone:
            spools.own.acknowledge(name)
        assert [entry.id for entry in spools.own.entries("intake")] == left
    with closing(begin(disk, "b")) as later:
        assert [entry.id for spool in later.adopted() for entry in spool.entries("intake")] == left


@pytest.mark.requirement("R8.4")
def test_a_start_on_a_full_disk(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """What a dead process kept in reserve is room enough to begin; without that the spool is in memory, said loudly."""
    first = begin(disk, "a")
    first.own.put(New("x", "intake", "s", BODY))
    first.own.close()
    assert first._lock is not None
    first._lock.release()  # as a SIGKILL would: the reserve stays
    disk.fill()
    with closing(begin(disk, "b")) as second:
        assert second.own.durable
        assert [entry.id for spool in second.adopted() for entry in spool.entries("intake")] == ["x"]
        disk.fill()
        with caplog.at_level(logging.CRITICAL), closing(begin(disk, "c")) as third:
            assert not third.own.durable
            third.own.put(New("y", "alert", "s", BODY))
        assert "in memory" in caplog.text
        assert not list(disk.spools.glob("f.l.c.*"))
