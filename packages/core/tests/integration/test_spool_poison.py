"""Entries of a spool whose delivery ends the process: counted before it begins, set aside, the next ones go on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.resilience.spool import visit
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import DamagedEntry, Entry, Later, New, Verdict
from rpa_core.resilience.spool.rows import StoredBody
from rpa_core.resilience.spool.spool import Spool

_PROGRAM = """
import os, sys
from pathlib import Path
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import open_spools
from rpa_core.resilience.spool.model import Delivered

folder, kind, incarnation, poison = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
spools = open_spools(folder, flow="f", label="l", incarnation=incarnation, max_bytes=2**24, max_age_s=9e9,
                     reserve_bytes=0)

def deliver(spool, entry):
    if entry.id == poison:
        os._exit(137)
    print(entry.id, flush=True)
    return Delivered()

courier = Courier(kind, spools.all, deliver)
courier.start()
courier.flush(20)
courier.stop(20)
spools.close()
"""


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Spools]:
    made = open_(tmp_path)
    yield made
    made.close()


def open_(folder: Path, incarnation: str = "first") -> Spools:
    return open_spools(
        folder, flow="f", label="l", incarnation=incarnation, max_bytes=2**24, max_age_s=9e9, reserve_bytes=0
    )


def run(folder: Path, kind: str, incarnation: str, poison: str) -> tuple[int, list[str]]:
    """Exit code and what was delivered."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), kind, incarnation, poison],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.split()


@pytest.mark.requirement("N3", "R6.5")
@pytest.mark.parametrize("kind", ["intake", "finished", "prefect", "alert"])
def test_a_delivery_that_ends_the_process_is_tried_three_times(tmp_path: Path, kind: str) -> None:
    """Then it is a dead letter and what waits behind it is delivered; a person may put it back."""
    with closing(open_(tmp_path)) as spools:
        spools.own.put(New("bad", kind, "s", b"x\n"), New("good", kind, "s", b"y\n"))
    ends = [run(tmp_path, kind, f"p{number}", "bad") for number in range(4)]
    assert ends == [(137, []), (137, []), (137, []), (0, ["good"])]
    (path,) = (each for each in visit.files(tmp_path) if visit.dead_letters(each))
    (letter,) = visit.dead_letters(path)
    assert letter.entry.id == "bad"
    assert "ended the process 3 times" in letter.reason
    assert visit.retry(path, "bad")
    assert run(tmp_path, kind, "cured", "none") == (0, ["bad"])


@pytest.mark.requirement("N3")
def test_a_delivery_that_comes_back_does_not_count(tmp_path: Path) -> None:
    """Neither what is put off, however often, nor what is under way when the process is asked to end."""
    for number in range(5):
        spools = open_(tmp_path, f"p{number}")
        if number == 0:
            spools.own.put(New("slow", "intake", "s", b"x\n"))
        entered, leave, answers = threading.Event(), threading.Event(), iter([True, True, False])

        def deliver(
            _: Spool,
            __: Entry,
            entered: threading.Event = entered,
            leave: threading.Event = leave,
            answers: Iterator[bool] = answers,
        ) -> Verdict:
            if next(answers, False):
                return Later("not yet", after_s=0.0)
            entered.set()
            leave.wait(20)
            return Later("stopping")

        courier = Courier("intake", spools.all, deliver)
        courier.start()
        assert entered.wait(20)
        courier.stop(0.0)
        spools.close()
        leave.set()
    with closing(open_(tmp_path, "last")) as spools:
        (entry,) = [entry for spool in spools.all() for entry in spool.heads("intake")]
        assert entry.begun == 0


@pytest.mark.requirement("N3")
def test_a_file_of_an_earlier_version_is_read_and_stays_readable_for_it(tmp_path: Path) -> None:
    """The column for the count is added when it is opened; statements that do not know it go on."""
    with closing(open_(tmp_path)) as spools:
        spools.own.put(New("old", "intake", "s", b"x\n"))
        path = spools.own.path
    assert path is not None
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE entry DROP COLUMN begun")
    with closing(open_(tmp_path, "second")) as spools:
        (entry,) = [entry for spool in spools.all() for entry in spool.entries("intake")]
        assert (entry.id, entry.begun) == ("old", 0)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert run(tmp_path, "intake", "third", "none") == (0, ["old"])


class Megabytes:
    """A body that is made as it is read."""

    def __init__(self, count: int) -> None:
        self.size_bytes = count * 2**20

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.size_bytes // 2**20):
            yield bytes([number % 256]) * 2**20


@pytest.mark.requirement("R6.5")
def test_a_large_body_is_put_read_and_put_back_in_pieces(spools: Spools) -> None:
    """Heads have its beginning; the whole comes in pieces, the same bytes, also after a dead letter was put back."""
    spool = spools.own
    spool.put(New("large", "intake", "s", Megabytes(5)))
    (entry,) = spool.heads("intake")
    assert len(entry.body) == 256 * 1024
    pieces = list(spool.pieces(entry))
    assert max(map(len, pieces)) <= 64 * 1024
    assert b"".join(pieces) == b"".join(Megabytes(5))
    spool.bury(entry, "tried")
    (letter,) = spool.dead("intake")
    assert len(letter.entry.body) == 2**20
    assert spool.retry("large")
    (entry,) = spool.entries("intake")
    assert b"".join(spool.pieces(entry)) == b"".join(Megabytes(5))


@pytest.mark.requirement("N3")
def test_damage_in_a_large_body_is_found_when_it_is_read(spools: Spools) -> None:
    """Nothing is taken for whole that is not what was put."""
    spool = spools.own
    spool.put(New("large", "intake", "s", Megabytes(3)))
    assert spool.path is not None
    (entry,) = spool.heads("intake")
    with closing(sqlite3.connect(spool.path)) as db, db:
        with db.blobopen("body", "body", entry.seq) as blob:
            blob.seek(2**21)
            blob.write(b"\0")
        assert StoredBody(db, entry.seq, 3 * 2**20).beginning(4) == b"\0\0\0\0"
    with pytest.raises(DamagedEntry, match="not what was put"):
        list(spool.pieces(entry))
