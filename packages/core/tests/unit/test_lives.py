"""Lives: crashes are counted, ends are not, and a loop waits."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from rpa_core.resilience.lives import Crash, Lives, count


class Worker:
    """Its lives, one after the other, at times of one's choice."""

    def __init__(self, folder: Path | None, label: str = "host:7") -> None:
        self.folder = folder
        self.label = label
        self.at = 1_000_000.0
        self.lived = 0

    def live(self, *, cap_s: float = 60.0) -> Lives:
        """The next life, not yet begun."""
        self.lived += 1
        return Lives(
            self.folder,
            flow="rpa1",
            label=self.label,
            incarnation=f"{self.label[-1]}{self.lived:03x}",
            window_s=600,
            cap_s=cap_s,
            now=lambda: self.at,
        )

    def crash(self) -> list[Crash]:
        """A life that begins and is killed: the kernel lets go of its lock, the marker stays."""
        life = self.live()
        found = list(life.begin())
        life.close()
        self.at += 10
        return found


@pytest.mark.requirement("R8.2")
def test_lives_that_end_without_a_word_are_counted(tmp_path: Path) -> None:
    """Each next life sees one crash more, with what it was and when it was found."""
    worker = Worker(tmp_path)
    assert [count(worker.crash()) for _ in range(4)] == [0, 1, 2, 3]
    found = worker.crash()
    assert [crash.incarnation for crash in found] == ["7001", "7002", "7003", "7004"]
    assert found[0].began_at == 1_000_000.0
    assert found[0].found_at == pytest.approx(1_000_010.0)


@pytest.mark.requirement("R8.2")
def test_a_good_end_is_no_crash_and_breaks_the_loop(tmp_path: Path) -> None:
    """After a drain, nothing that was before it counts."""
    worker = Worker(tmp_path)
    for _ in range(3):
        worker.crash()
    life = worker.live()
    assert count(life.begin()) == 3
    life.end()
    life.end()
    assert not list((tmp_path / "lives").iterdir())
    assert worker.crash() == []


@pytest.mark.requirement("R8.2")
def test_an_end_that_told_why_is_no_crash_and_breaks_no_loop(tmp_path: Path) -> None:
    """It ended by an error that was alerted: what was before it counts on."""
    worker = Worker(tmp_path)
    for _ in range(3):
        worker.crash()
    life = worker.live()
    life.begin()
    life.end(well=False)
    worker.at += 1
    assert count(worker.crash()) == 3


@pytest.mark.requirement("R8.2")
def test_crashes_leave_the_window(tmp_path: Path) -> None:
    """Also when the clock was set back by more than that."""
    worker = Worker(tmp_path)
    for _ in range(3):
        worker.crash()
    worker.at += 585
    assert count(worker.crash()) == 2, "found 595, 605 and just now"
    worker.at -= 86_400
    assert count(worker.crash()) == 1, "the one that is only found now"


@pytest.mark.requirement("R8.2")
def test_others_are_not_its_crashes(tmp_path: Path) -> None:
    """A life that goes on, another label, another flow."""
    first = Worker(tmp_path)
    alive = first.live()
    alive.begin()
    other = Worker(tmp_path, label="host:8")
    other.crash()
    assert first.crash() == []
    alive.end()


@pytest.mark.requirement("R8.2")
def test_workers_that_went_down_together_are_one_crash(tmp_path: Path) -> None:
    """Five processes share a label and the machine loses power: the next start finds five markers, and no loop."""
    worker = Worker(tmp_path)
    together = [worker.live() for _ in range(5)]
    for life in together:
        assert not life.begin()
    for life in together:
        life.close()
    found = worker.crash()
    assert len(found) == 5
    assert count(found) == 1


@pytest.mark.requirement("R8.2")
def test_bad_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Garbage, half a marker, a link, a folder, a file of another kind under a fitting name: all stay, none counts."""
    folder = tmp_path / "lives"
    folder.mkdir()
    target = tmp_path / "elsewhere"
    target.write_text(json.dumps({"kind": "rpa life", "flow": "rpa1", "label": "host:7", "incarnation": "x"}))
    good = {"kind": "rpa life", "flow": "rpa1", "label": "host:7", "incarnation": "x", "began_at": 1.0}
    planted = {
        "rpa1@host%3A7@a.life": b"\xff\x00",
        "rpa1@host%3A7@b.life": json.dumps(good)[:30].encode(),
        "rpa1@host%3A7@c.crash": json.dumps(good | {"began_at": "yesterday"}).encode(),
        "rpa1@host%3A7@d.life": json.dumps(good | {"kind": "a diary"}).encode(),
        "rpa1@host%3A7@e.crash": b"[]",
        "notes.life": json.dumps(good).encode(),
    }
    for name, content in planted.items():
        (folder / name).write_bytes(content)
    (folder / "rpa1@host%3A7@f.life").symlink_to(target)
    (folder / "rpa1@host%3A7@g.crash").mkdir()
    before = {path.name for path in folder.iterdir()}
    worker = Worker(tmp_path)
    assert worker.crash() == []
    life = worker.live()
    assert count(life.begin()) == 1
    life.end()
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.requirement("R8.2")
def test_markers_of_workers_that_never_came_back_go_after_a_week(tmp_path: Path) -> None:
    """Those of dead lives alone."""
    gone, there, late = (Worker(tmp_path, label=f"host-{name}") for name in "abc")
    gone.crash()
    alive = there.live()
    alive.begin()
    for path in (tmp_path / "lives").iterdir():
        os.utime(path, (late.at, late.at))
    late.at += 8 * 86_400
    late.crash()
    names = sorted(path.name.split("@")[1] for path in (tmp_path / "lives").iterdir())
    assert names == ["host-b", "host-c"]
    alive.end()


@pytest.mark.requirement("R8.2")
def test_the_wait_doubles_up_to_its_cap(tmp_path: Path) -> None:
    """Nothing after the first crash; then never near nothing, and never more than the cap."""
    life = Worker(tmp_path).live()
    rand = random.Random(5)

    def waits(n: int) -> list[float]:
        crashes = [Crash(incarnation=str(i), began_at=0.0, found_at=float(i)) for i in range(n)]
        return [life.wait_s(crashes, rand) for _ in range(300)]

    assert waits(0) == waits(1) == [0.0] * 300
    for n, bound in ((2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (500, 60)):
        drawn = waits(n)
        assert bound / 2 <= min(drawn) < 0.52 * bound
        assert 0.98 * bound < max(drawn) <= bound


@pytest.mark.requirement("R8.2")
def test_no_wait_without_a_cap_and_no_memory_without_a_folder(tmp_path: Path) -> None:
    """CONTAINER_CRASH_BACKOFF_MAX=0 turns it off; without a spool folder nothing is remembered, and nothing fails."""
    worker = Worker(tmp_path)
    crashes = [Crash(incarnation=str(i), began_at=0.0, found_at=float(i)) for i in range(9)]
    assert worker.live(cap_s=0).wait_s(crashes, random.Random()) == 0.0
    forgetful = Worker(None)
    assert forgetful.crash() == forgetful.crash() == []
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert Worker(in_the_way).crash() == []


@pytest.mark.requirement("R7.1")
def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    """No marker is made where a link leads; the worker goes on without a memory of its crashes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "lives").symlink_to(elsewhere)
    worker = Worker(tmp_path)
    assert [worker.crash(), worker.crash()] == [[], []]
    assert list(elsewhere.iterdir()) == []
