"""The spools of a folder: whose each is, who may take it over, and what is removed when."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.errors import ConfigError
from rpa_core.resilience.spool.directory import Spools, SpoolUnusable, open_spools
from rpa_core.resilience.spool.locks import is_locked, try_lock
from rpa_core.resilience.spool.model import New

Open = Callable[..., Spools]


def begin(folder: Path | None, incarnation: str, *, flow: str = "f", label: str = "l", **more: object) -> Spools:
    limits = {"max_bytes": 2**20, "max_age_s": 100.0, "reserve_bytes": 4096} | more
    return open_spools(folder, flow=flow, label=label, incarnation=incarnation, **limits)  # type: ignore[arg-type]  # from a dictionary


def new(name: str, stream: str = "s") -> New:
    return New(name, "prefect", stream, b"x")


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.mark.requirement("R2.3")
def test_without_a_folder_it_is_in_memory() -> None:
    """Nothing durable, nothing to take over."""
    with closing(begin(None, "a")) as spools:
        spools.own.put(new("a"))
        assert not spools.own.durable
        assert (list(spools.adopted()), spools.adopt(), spools.tidy()) == ([], 0, 0)
        assert spools.all() == [spools.own]


@pytest.mark.requirement("R2.3")
def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """0700 and 0600, with the names that people look for."""
    folder = tmp_path / "a" / "spools"
    with closing(begin(folder, "ab12", label="host.1")):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {"f.host_1.ab12.spool", "f.host_1.ab12.spool-lock", "f.host_1.ab12.spool-reserve"} <= names(folder)
        assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}


@pytest.mark.requirement("R2.3")
def test_a_clean_end_leaves_what_waits_and_nothing_else(tmp_path: Path) -> None:
    """An empty spool goes with its process; one with entries stays, and the next process takes it over."""
    begin(tmp_path, "a").close()
    assert names(tmp_path) == set()
    with closing(begin(tmp_path, "b")) as spools:
        spools.own.put(new("x"))
    assert names(tmp_path) == {"f.l.b.spool", "f.l.b.spool-lock"}
    with closing(begin(tmp_path, "c")) as spools:
        (adopted,) = spools.adopted()
        assert [entry.id for entry in adopted.heads("prefect")] == ["x"]
        assert spools.tidy() == 0
        adopted.acknowledge("x")
        assert spools.tidy() == 1
        assert not any(name.startswith("f.l.b.") for name in names(tmp_path))
        assert spools.adopted() == []
        assert adopted.heads("prefect") == []
    assert names(tmp_path) == set()


@pytest.mark.requirement("R2.3")
def test_dead_letters_and_notes_keep_a_file(tmp_path: Path) -> None:
    """Until a person has decided, and until the notes are forgotten or too old to matter."""
    now = [1000.0]
    with closing(begin(tmp_path, "a", now=lambda: now[0])) as spools:
        spools.own.put(new("x"))
        spools.own.bury(spools.own.heads("prefect")[0], "refused")
        spools.own.remember("alert", "open", b"1")
    with closing(begin(tmp_path, "b", now=lambda: now[0])) as spools:
        assert spools.tidy() == 0
        assert spools.adopted()[0].discard("x")
        assert spools.tidy() == 0
        now[0] += 101
        assert spools.tidy() == 1


@pytest.mark.requirement("R2.3")
def test_the_living_are_left_alone(tmp_path: Path) -> None:
    """A spool belongs to whoever holds its lock; two processes never hold it both."""
    with closing(begin(tmp_path, "a")) as first, closing(begin(tmp_path, "b")) as second:
        first.own.put(new("x"))
        assert first.own.path is not None
        assert is_locked(first.own.path)
        assert try_lock(first.own.path) is None
        assert second.adopt() == 0
        assert first.adopt() == 0
        with pytest.raises(SpoolUnusable, match="belongs to another process"):
            begin(tmp_path, "a")
    assert names(tmp_path) == {"f.l.a.spool", "f.l.a.spool-lock"}
    with closing(begin(tmp_path, "c")) as third, closing(begin(tmp_path, "d")) as fourth:
        assert (len(third.adopted()), len(fourth.adopted())) == (1, 0)


@pytest.mark.requirement("R2.3")
def test_flows_keep_to_themselves(tmp_path: Path) -> None:
    """Neither a flow whose name begins alike nor one whose file name is the same takes anything over."""
    for flow in ("invoices", "a-b", "a.b"):
        with closing(begin(tmp_path, "x" + flow, flow=flow)) as spools:
            spools.own.put(new(flow))
    for flow in ("in", "invoices-2", "a", "a_b"):
        with closing(begin(tmp_path, "y", flow=flow)) as spools:
            assert spools.adopted() == []
    with closing(begin(tmp_path, "z", flow="a.b")) as spools:
        assert [entry.id for spool in spools.adopted() for entry in spool.heads("prefect")] == ["a.b"]


@pytest.mark.requirement("R2.3")
def test_adopted_spools_come_oldest_first(tmp_path: Path) -> None:
    """Then the process's own: a stream that goes on in a later life is delivered in order."""
    now = [1000.0]
    open_ones = []
    for name in ("z", "y", "x"):
        now[0] += 1
        spools = begin(tmp_path, name, now=lambda: now[0])
        spools.own.put(new(name))
        open_ones.append(spools)
    for spools in open_ones:
        spools.close()
    with closing(begin(tmp_path, "w")) as last:
        last.own.put(new("w"))
        assert [entry.id for spool in last.all() for entry in spool.heads("prefect")] == ["z", "y", "x", "w"]


@pytest.mark.requirement("R2.3")
def test_what_a_process_left_half_removed_goes(tmp_path: Path) -> None:
    """Files beside a spool that is no longer there."""
    for suffix in ("lock", "reserve", "wal", "shm"):
        (tmp_path / f"f.l.gone.spool-{suffix}").write_bytes(b"")
    (tmp_path / "g.l.gone.spool-lock").write_bytes(b"")
    (tmp_path / "f.l.old.spool.damaged-20300101").write_bytes(b"precious")
    begin(tmp_path, "a").close()
    assert names(tmp_path) == {"g.l.gone.spool-lock", "f.l.old.spool.damaged-20300101"}


@pytest.mark.requirement("R2.3")
def test_an_empty_file_of_a_process_that_hardly_began_goes(tmp_path: Path) -> None:
    """Killed between making the file and its layout."""
    (tmp_path / "f.l.a.spool").write_bytes(b"")
    with closing(begin(tmp_path, "b")) as spools:
        assert len(spools.adopted()) == 1
        assert spools.tidy() == 1
    assert names(tmp_path) == set()


@pytest.mark.requirement("R2.3")
def test_a_newer_layout_is_left_to_its_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither adopted nor put aside; the log says why."""
    with closing(begin(tmp_path, "a")) as spools:
        spools.own.put(new("x"))
    with closing(sqlite3.connect(tmp_path / "f.l.a.spool")) as db:
        db.execute("PRAGMA user_version = 99")
    with caplog.at_level(logging.WARNING), closing(begin(tmp_path, "b")) as spools:
        assert spools.adopted() == []
    assert "newer version (layout 99" in caplog.text
    assert "f.l.a.spool" in names(tmp_path)


@pytest.mark.requirement("R2.3", "R1.2")
def test_a_folder_that_is_none_is_explained(tmp_path: Path) -> None:
    """The variable, the path, why, and what to do; as a problem of the configuration."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        begin(tmp_path / "file" / "spools", "a")
    assert caught.value.exit_code == 78
    (problem,) = caught.value.problems
    assert problem.startswith(f"CONTAINER_SPOOL_DIR  {tmp_path}/file/spools cannot be written by user ")
    assert "mount a volume there" in problem


@pytest.mark.requirement("R7.1", "R2.3")
def test_a_folder_that_everyone_can_write_to_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is made 0700, with a line that says so; one that only a group shares is left as it is."""
    tmp_path.chmod(0o777)
    begin(tmp_path, "a").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert "could be written by every user (0777): it is 0700 now" in caplog.text
    caplog.clear()
    tmp_path.chmod(0o2770)
    begin(tmp_path, "b").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o2770
    assert "every user" not in caplog.text


@pytest.mark.requirement("R7.1", "R2.3")
def test_a_folder_of_another_user_that_everyone_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could exchange every file; one of root, as a volume is mounted, is used and reported."""
    tmp_path.chmod(0o777)
    owner = os.geteuid() or 12345
    if os.geteuid() == 0:
        os.chown(tmp_path, owner, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(SpoolUnusable, match=rf"every user can write to it \(0777\), and user {owner} owns it.*SPL002"):
        begin(tmp_path, "a")


@pytest.mark.requirement("R7.1", "R2.3")
@pytest.mark.parametrize("suffix", [".spool-lock", ".spool-reserve"])
def test_links_beside_a_spool_are_not_followed(tmp_path: Path, suffix: str) -> None:
    """Nothing is made or emptied where a link in the folder leads."""
    folder, elsewhere = tmp_path / "spool", tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name, target in (("dangling", elsewhere), ("b", precious)):
        (folder / f"f.l.{name}{suffix}").symlink_to(target)
    (folder / "f.l.dangling.spool").write_bytes(b"")
    try:
        begin(folder, "b").close()
    except SpoolUnusable as error:
        assert "SPL002" in str(error)  # noqa: PT017 - refused or done without: both leave the target alone
    assert not elsewhere.exists()
    assert precious.read_text() == "precious"


@pytest.mark.requirement("R7.1", "R2.3")
@pytest.mark.parametrize("linked", [True, False])
def test_a_database_of_another_program_is_not_changed(tmp_path: Path, linked: bool) -> None:
    """Linked into the folder it is left alone; copied there it is put aside, byte for byte."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as db, db:
        db.execute("CREATE TABLE theirs (n)")
        db.execute("INSERT INTO theirs VALUES (1)")
    content = foreign.read_bytes()
    if linked:
        (folder / "f.l.old.spool").symlink_to(foreign)
    else:
        (folder / "f.l.old.spool").write_bytes(content)
    begin(folder, "new").close()
    if linked:
        assert (folder / "f.l.old.spool").is_symlink()
    else:
        (aside,) = folder.glob("*.damaged-*")
        assert aside.read_bytes() == content
    assert foreign.read_bytes() == content
    assert names(tmp_path) == {"spool", "foreign.db"}
