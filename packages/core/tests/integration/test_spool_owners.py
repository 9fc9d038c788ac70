"""Whose a spool is, among real processes: the stopped live, the killed do not, and one adopter takes each."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.resilience.spool import visit
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import Share
from rpa_core.resilience.spool.spool import Spool
from rpa_testkit.waits import until

from . import spool_program
from .spool_program import KIND, spools_in


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that puts."""
    record = tmp_path / "record"
    arguments = [sys.executable, spool_program.__file__, str(tmp_path / "spools"), str(record), "owner"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: record.exists() and record.stat().st_size > 0, 30, "the owner to put something")
            yield process
        finally:
            process.kill()


@pytest.mark.requirement("R2.3")
def test_a_stopped_owner_keeps_its_spool(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """SIGSTOP is no death; after SIGKILL the spool is adopted with everything in it."""
    owner.send_signal(signal.SIGSTOP)
    with closing(spools_in(tmp_path / "spools", "other")) as spools:
        assert spools.adopted() == []
        assert spools.adopt() == 0
        (seen,) = [visit.look(path) for path in visit.files(tmp_path / "spools") if "owner" in path.name]
        assert (seen.owner, seen.living) == ("test:owner", True)
        assert seen.kinds[KIND].entries > 0
        owner.kill()
        owner.wait(30)
        assert spools.adopt() == 1
        assert spools.adopted()[0].depth(KIND).entries >= seen.kinds[KIND].entries


@pytest.mark.requirement("R2.3")
def test_a_dead_letter_is_put_back_while_its_owner_runs(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Another process writes to the file beside the owner; neither disturbs the other."""
    (path,) = visit.files(tmp_path / "spools")
    with closing(Spool(path, max_bytes=2**28, shares={KIND: Share(ratio=0.25)})) as beside:
        first, second, *_ = beside.entries(KIND)
        beside.bury(first, "for the test")
        beside.bury(second, "for the test")
    assert [letter.entry.id for letter in visit.dead_letters(path)] == [first.id, second.id]
    assert visit.retry(path, first.id)
    assert visit.discard(path, second.id)
    assert not visit.retry(path, "unknown")
    assert not visit.discard(path, "unknown")
    assert visit.dead_letters(path) == []
    before = visit.look(path).kinds[KIND].entries
    until(lambda: visit.look(path).kinds[KIND].entries > before, 30, "the owner to go on")
    assert owner.poll() is None
    owner.kill()
    owner.wait(30)
    with closing(spools_in(tmp_path / "spools", "other")) as spools:
        (left,) = spools.adopted()
        ids = [entry.id for entry in left.entries(KIND)]
    assert ids.count(first.id) == 1
    assert second.id not in ids


@pytest.mark.requirement("R2.3")
def test_of_many_adopters_one_takes_a_spool(owner: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """However many look at once."""
    folder = tmp_path / "spools"
    others = [spools_in(folder, f"other{number}") for number in range(6)]
    owner.kill()
    owner.wait(30)
    together = threading.Barrier(len(others))

    def adopt(spools: Spools) -> None:
        together.wait(30)
        spools.adopt()

    threads = [threading.Thread(target=adopt, args=(spools,)) for spools in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        assert sorted(len(spools.adopted()) for spools in others) == [0] * 5 + [1]
    finally:
        for spools in others:
            spools.close()
