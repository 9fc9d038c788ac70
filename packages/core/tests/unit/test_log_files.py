"""Log files: rotated, whole lines, and never on top of what somebody else made."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rpa_core.observability import files as files_module
from rpa_core.observability import manifest as manifest_module
from rpa_core.observability.files import LogFiles, OldLogs
from rpa_core.observability.logs import configure

Lines = list[str]


def messages(path: Path) -> Lines:
    """What was written to a file, its first line left out."""
    first, *rest = path.read_text().splitlines()
    assert json.loads(first)["event.action"] == "log.file_begun"
    return rest


def fill(log: LogFiles, first: int, last: int) -> None:
    """Lines of 100 bytes that name themselves."""
    for number in range(first, last):
        log.write(f"{number:099d}\n")


def numbers(path: Path) -> list[int]:
    """Which of them a file has."""
    return [int(line) for line in messages(path)]


@pytest.mark.requirement("R8.4")
def test_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    """At most so many, each at most so large, no line in two of them and none between."""
    log = LogFiles(tmp_path, "rpa1-w1", max_bytes=1000, backups=3)
    fill(log, 0, 40)
    log.close()
    names = ["rpa1-w1.log.3", "rpa1-w1.log.2", "rpa1-w1.log.1", "rpa1-w1.log"]
    assert {path.name for path in tmp_path.iterdir()} == {*names, ".rpa1-w1.rpa-log"}
    kept = [number for name in names for number in numbers(tmp_path / name)]
    assert kept == list(range(kept[0], 40))
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    assert log.dropped == 0


@pytest.mark.requirement("R8.4")
def test_the_next_process_goes_on_with_the_same_file(tmp_path: Path) -> None:
    """And its files are still known to be ours."""
    for start in (0, 4):
        log = LogFiles(tmp_path, "rpa1-w1", max_bytes=1000, backups=2)
        fill(log, start, start + 4)
        log.close()
    assert numbers(tmp_path / "rpa1-w1.log") == list(range(8))
    log = LogFiles(tmp_path, "rpa1-w1", max_bytes=1000, backups=2)
    fill(log, 8, 30)
    assert len(list(OldLogs(tmp_path, log).clean())) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"rpa1-w1.log", ".rpa1-w1.rpa-log"}
    log.close()


@pytest.mark.requirement("R8.4")
def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    """The second takes the next name."""
    first, second = (LogFiles(tmp_path, "rpa1-w1") for _ in range(2))
    first.write("of the first\n")
    second.write("of the second\n")
    assert second.path == tmp_path / "rpa1-w1-2.log"
    first.close()
    second.close()
    assert messages(tmp_path / "rpa1-w1.log") == ["of the first"]
    assert messages(tmp_path / "rpa1-w1-2.log") == ["of the second"]


@pytest.mark.requirement("R8.4")
def test_foreign_files_are_neither_continued_nor_moved_nor_replaced_nor_deleted(tmp_path: Path) -> None:
    """Where one has the current name, another is taken; where one has a number, ours go around it."""
    (tmp_path / "rpa1-w1.log").write_text("a diary\n")
    log = LogFiles(tmp_path, "rpa1-w1", max_bytes=1000, backups=3)
    assert log.path == tmp_path / "rpa1-w1-2.log"
    fill(log, 0, 10)
    planted = {
        "rpa1-w1-2.log.2": b"notes\n",
        "rpa1-w1-2.log.new": b"new\n",
        "rpa1-w1.log.1": b"yesterday\n",
        "rpa1-w1-2.log.old": b"old\n",
        ".other.rpa-log": b"not a manifest",
        ".third.rpa-log": b"{}",
        "third.log.1": b"third\n",
    }
    for name, content in planted.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "rpa1-w1-2.log.4").symlink_to(tmp_path / "rpa1-w1.log")
    fill(log, 10, 20)
    assert log.error is not None, "the place of the next file is taken: it goes on with the one that it has"
    (tmp_path / "rpa1-w1-2.log.new").unlink()
    planted.pop("rpa1-w1-2.log.new")
    log._not_before = 0.0
    fill(log, 20, 60)
    assert {path.name for path in tmp_path.glob("rpa1-w1-2.log.[135]")} == {f"rpa1-w1-2.log.{n}" for n in (1, 3, 5)}
    planted["rpa1-w1-2.log.9"] = (tmp_path / "rpa1-w1-2.log.1").read_bytes()
    (tmp_path / "rpa1-w1-2.log.9").write_bytes(planted["rpa1-w1-2.log.9"])  # a copy of one of ours is not ours
    assert len(list(OldLogs(tmp_path, log).clean())) == 3
    assert {name: (tmp_path / name).read_bytes() for name in planted} == planted
    assert (tmp_path / "rpa1-w1.log").read_text() == "a diary\n"
    assert (tmp_path / "rpa1-w1-2.log.4").is_symlink()
    assert log.dropped == 0
    log.close()


@pytest.mark.requirement("R8.4")
def test_logs_of_the_dead_go_before_its_own_and_those_of_the_living_stay(tmp_path: Path) -> None:
    """And nobody's current file goes: the last words of the dead are in it."""
    own, living, dead = (
        LogFiles(tmp_path, f"rpa1-{name}", max_bytes=1000, backups=2) for name in ("own", "live", "dead")
    )
    for each in (own, living, dead):
        fill(each, 0, 30)
    dead.close()
    cleaner = OldLogs(tmp_path, own).clean()
    gone: Lines = []
    before = {path.name for path in tmp_path.iterdir()}
    for _ in cleaner:
        now = {path.name for path in tmp_path.iterdir()}
        gone += before - now
        before = now
    assert gone == ["rpa1-dead.log.2", "rpa1-dead.log.1", "rpa1-own.log.2", "rpa1-own.log.1"]
    assert {"rpa1-dead.log", "rpa1-own.log", "rpa1-live.log", "rpa1-live.log.1", "rpa1-live.log.2"} <= before
    own.close()
    living.close()


class FullDisk:
    """Takes half of what it is given, then nothing, until it is emptied."""

    def __init__(self) -> None:
        self.full = True
        self.write: Callable[[int, bytes], None] = manifest_module.write_all

    def __call__(self, descriptor: int, data: bytes) -> None:
        if self.full:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.write(descriptor, data)


@pytest.mark.requirement("R8.4")
def test_a_full_disk_drops_whole_lines_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, no half line stays, and what comes next follows the number of those that are missing."""
    log = LogFiles(tmp_path, "rpa1-w1")
    log.write("before\n")
    disk = FullDisk()
    monkeypatch.setattr(files_module, "write_all", disk)
    log.write("lost\nlost too\n")
    log.write("and this\n")
    assert log.dropped == 3
    disk.full = False
    log.write("after\n")
    before, loss, after = messages(tmp_path / "rpa1-w1.log")
    assert (before, after) == ("before", "after")
    assert json.loads(loss)["message"] == "3 log lines were dropped: the disk took nothing"
    log.close()


@pytest.mark.requirement("R8.4")
def test_a_file_that_somebody_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """An outside logrotate, or a person."""
    log = LogFiles(tmp_path, "rpa1-w1")
    log.write("one\n")
    (tmp_path / "rpa1-w1.log").rename(tmp_path / "saved")
    log.write("two\n")
    log.close()
    assert messages(tmp_path / "saved") == ["one"]
    assert messages(tmp_path / "rpa1-w1.log") == ["two"]


@pytest.mark.requirement("R8.4")
def test_a_folder_that_cannot_be_written_costs_the_copies_alone(tmp_path: Path) -> None:
    """The log goes on to stdout, says why there are no files, and the process does not end."""
    (tmp_path / "file").touch()
    stream = io.StringIO()
    logging_ = configure(stream=stream, files=LogFiles(tmp_path / "file" / "logs", "rpa1-w1"), hooks=False)
    logging.getLogger("rpa.test").warning("still here")
    logging_.stop()
    said = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert said[0].startswith("no log files: [Errno 20] Not a directory")
    assert said[1] == "still here"
    assert logging_.dropped == 2


@pytest.mark.requirement("R8.4")
def test_copies_are_json_and_redacted(tmp_path: Path) -> None:
    """What stdout shows to people, the files have as JSON, without the secrets."""
    stream = io.StringIO()
    files = LogFiles(tmp_path, "rpa1-w1")
    logging_ = configure("console", stream=stream, secrets=["canary-9"], files=files, hooks=False)
    logging.getLogger("rpa.test").warning("token is canary-9", extra={"event.action": "test.said"})
    logging_.stop()
    (line,) = messages(tmp_path / "rpa1-w1.log")
    assert json.loads(line)["event.action"] == "test.said"
    assert "canary-9" not in line
    assert "canary-9" not in stream.getvalue()
    assert stream.getvalue()
