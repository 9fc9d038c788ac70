"""Temporary folders: those of dead owners go, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rpa_core.resilience.disk.temporary import MARKER, OldTemporaries, TemporaryFolder


def abandon(folder: TemporaryFolder) -> Path:
    """What the kernel does when the owner dies."""
    os.close(folder._descriptor)
    return folder.path


@pytest.mark.requirement("R8.4")
def test_folders_of_dead_owners_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    """With all that is in them; oldest first; what they held is told."""
    alive, first, second = (TemporaryFolder(tmp_path, "rpa1") for _ in range(3))
    other_flow = abandon(TemporaryFolder(tmp_path, "rpa2"))
    for each in (alive, first, second):
        (each.path / "deep" / "er").mkdir(parents=True)
        (each.path / "deep" / "er" / "data").write_bytes(b"x" * 8192)
    for age, each in ((30, second), (20, first)):
        abandon(each)
        os.utime(each.path, (1e9 - age, 1e9 - age))
    cleaner = OldTemporaries(tmp_path, "rpa1").clean()
    assert next(cleaner) >= 8192
    assert not second.path.exists()
    assert first.path.exists()
    assert len(list(cleaner)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {alive.path.name, other_flow.name}
    assert (alive.path / "deep" / "er" / "data").exists()
    alive.remove()
    assert not alive.path.exists()


@pytest.mark.requirement("R8.4")
def test_nothing_that_only_looks_alike_is_deleted(tmp_path: Path) -> None:
    """Without a marker, with somebody else's, a copied one, a link instead of one, a file, a link to a folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = abandon(TemporaryFolder(elsewhere, "rpa1"))
    given = (real / MARKER).read_bytes()
    names = [f"rpa-rpa1-{number:016x}" for number in range(8)]
    for name in names[:6]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    (tmp_path / names[1] / MARKER).write_text("{}")
    (tmp_path / names[2] / MARKER).write_bytes(given)
    fitting = json.dumps({"kind": "rpa temporary folder", "folder": names[3]})
    (elsewhere / "fitting").write_text(fitting)
    (tmp_path / names[3] / MARKER).symlink_to(elsewhere / "fitting")
    (tmp_path / names[4] / MARKER).mkdir()
    (tmp_path / names[5] / f"{MARKER}.new").write_text(json.dumps({"kind": "rpa temporary folder", "folder": names[5]}))
    (tmp_path / names[6]).write_text("a file")
    (tmp_path / names[7]).symlink_to(real, target_is_directory=True)
    (tmp_path / "rpa-rpa1-short").mkdir()
    (tmp_path / "my-rpa-rpa1-0000000000000009").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert list(OldTemporaries(tmp_path, "rpa1").clean()) == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.requirement("R8.4")
def test_links_inside_are_removed_and_not_followed(tmp_path: Path) -> None:
    """What they point to belongs to somebody else."""
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (outside / "kept" / "file").touch()
    folder = TemporaryFolder(tmp_path, "rpa1")
    (folder.path / "to-folder").symlink_to(outside, target_is_directory=True)
    (folder.path / "to-file").symlink_to(outside / "kept" / "file")
    (folder.path / "to-nothing").symlink_to(tmp_path / "none")
    abandon(folder)
    assert len(list(OldTemporaries(tmp_path, "rpa1").clean())) == 1
    assert not folder.path.exists()
    assert (outside / "kept" / "file").exists()


@pytest.mark.requirement("R8.4")
def test_a_deletion_that_was_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    """The marker goes last, so that what is left can still be told."""
    folder = TemporaryFolder(tmp_path, "rpa1")
    (folder.path / "a").mkdir()
    (folder.path / "a" / "stuck").touch()
    abandon(folder)
    cleaner = OldTemporaries(tmp_path, "rpa1")
    real = os.unlink

    def broken(path: object, *, dir_fd: int | None = None) -> None:
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", broken)
        assert list(cleaner.clean()) == []
    assert os.unlink is real
    assert (folder.path / MARKER).exists()
    assert len(list(cleaner.clean())) == 1
    assert not folder.path.exists()
