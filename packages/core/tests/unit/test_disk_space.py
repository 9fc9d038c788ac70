"""When a file system has too little room, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rpa_core.resilience.disk import care as care_module
from rpa_core.resilience.disk.care import DiskCare
from rpa_core.resilience.disk.space import Marks, Space, look, one_each

GIB = 1024**3
MARKS = Marks(low_ratio=0.10, resume_ratio=0.15)


def space(free: float, size: float = 100.0, *, read_only: bool = False) -> Space:
    """A file system with so many bytes."""
    return Space(path=Path("/data"), size_bytes=int(size), free_bytes=int(free), read_only=read_only)


@pytest.mark.requirement("R8.4")
@pytest.mark.parametrize(
    ("size", "low", "resume"),
    [(GIB, 0.1 * GIB, 0.15 * GIB), (10 * GIB, GIB, 1.5 * GIB), (4000 * GIB, GIB, 1.5 * GIB), (0, 0, 0)],
)
def test_marks_are_shares_with_a_ceiling(size: int, low: float, resume: float) -> None:
    """A tenth of a small file system; of a large one, 1 GiB, and 1.5 GiB to go on."""
    assert (MARKS.low_bytes(size), MARKS.resume_bytes(size)) == pytest.approx((low, resume))


@pytest.mark.requirement("R8.4")
def test_between_the_marks_it_stays_as_it_was() -> None:
    """Low below the lower one, room from the upper one on; read-only is no room at all; a mark of 0 never closes."""
    seen = [
        (free, MARKS.is_low(space(free), was_low=False), MARKS.is_low(space(free), was_low=True))
        for free in (9, 10, 14, 15)
    ]
    assert seen == [(9, True, True), (10, False, True), (14, False, True), (15, False, False)]
    assert MARKS.is_low(space(99, read_only=True), was_low=False)
    assert not Marks(low_ratio=0, resume_ratio=0.1).is_low(space(0), was_low=False)


@pytest.mark.requirement("R8.4")
def test_a_file_system_is_watched_once(tmp_path: Path) -> None:
    """Two folders on one, and one that is not there."""
    (tmp_path / "a").mkdir()
    assert one_each([tmp_path / "a", tmp_path, tmp_path / "none"]) == [tmp_path / "a"]
    seen = look(tmp_path)
    assert 0 < seen.free_bytes <= seen.size_bytes


class Disk:
    """A file system whose size is told, with things on it that may be deleted."""

    def __init__(self, folder: Path, free: float, things: list[int]) -> None:
        self.folder = folder
        self.free = free
        self.things = things
        self.read_only = False
        self.error: OSError | None = None
        self.told: list[str] = []

    def look(self, path: Path) -> Space:
        if self.error is not None:
            raise self.error
        return Space(path=path, size_bytes=100, free_bytes=int(self.free), read_only=self.read_only)

    def clean(self) -> Iterator[int]:
        while self.things:
            freed = self.things.pop(0)
            self.free += freed
            yield freed

    def seen(self, space: Space) -> None:
        pass

    def cleaned(self, size_bytes: int) -> None:
        self.told.append(f"cleaned {size_bytes}")

    def low(self, space: Space, needed_bytes: float) -> None:
        self.told.append(f"low {space.free_bytes} of {needed_bytes:g}")

    def room(self, space: Space) -> None:
        self.told.append("room")


def careful(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> DiskCare:
    """Its care, without a thread."""
    monkeypatch.setattr(care_module, "look", disk.look)
    return DiskCare([disk.folder], marks=MARKS, cleaners=[disk], told=disk, interval_s=1)


@pytest.mark.requirement("R8.4")
def test_cleaning_comes_first_and_stops_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told of a lack that cleaning ends, and nothing is deleted beyond that."""
    disk = Disk(tmp_path, 8, [4, 4, 4])
    careful(monkeypatch, disk).look()
    assert disk.told == ["cleaned 4", "cleaned 4"]
    assert disk.things == [4]


@pytest.mark.requirement("R8.4")
def test_a_lack_is_told_once_and_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Low until the upper mark is reached, and again when it is low again."""
    disk = Disk(tmp_path, 5, [1])
    care = careful(monkeypatch, disk)
    for free in (5, 6, 12, 14, 15, 12, 9):
        disk.free = free
        care.look()
    assert disk.told == ["cleaned 1", "low 6 of 10", "room", "low 9 of 10"]


@pytest.mark.requirement("R8.4")
def test_a_disk_that_turns_read_only_is_low_and_not_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel remounts a broken disk so; one that was so from the beginning is not written to at all."""
    disk = Disk(tmp_path, 90, [4])
    care = careful(monkeypatch, disk)
    disk.read_only = True
    care.look()
    disk.read_only = False
    care.look()
    assert disk.told == ["low 90 of 10", "room"]
    assert disk.things == [4]
    disk.read_only = True
    assert careful(monkeypatch, disk).paths == ()


@pytest.mark.requirement("R8.4")
def test_errors_are_logged_once_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that cannot be looked at keeps its state; the next good look goes on from there."""
    disk = Disk(tmp_path, 5, [])
    care = careful(monkeypatch, disk)
    care.look()
    disk.error = OSError(5, "Input/output error")
    care.look()
    care.look()
    assert caplog.text.count("cannot be looked after") == 1
    disk.error, disk.free = None, 50
    care.look()
    assert disk.told == ["low 5 of 10", "room"]
