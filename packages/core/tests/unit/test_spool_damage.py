"""Damage on the disk: what was put is served or set aside, and never something else; the work goes on."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.resilience.spool.directory import shares
from rpa_core.resilience.spool.letters import DamagedLetter
from rpa_core.resilience.spool.model import DeadEntry, Listener, New
from rpa_core.resilience.spool.spool import Spool

MIB = 2**20


def opened(path: Path) -> Spool:
    return Spool(path, max_bytes=8 * MIB, shares=shares(None), about={"flow": "f"})


def body_of(number: int) -> bytes:
    return random.Random(number).randbytes(50 + 997 * (number % 7))


def filled(path: Path, count: int = 60) -> None:
    """Entries over three streams, in a file whose log is written back."""
    with closing(opened(path)) as spool:
        spool.put(*(New(f"id{number}", "prefect", f"s{number % 3}", body_of(number)) for number in range(count)))


@pytest.mark.requirement("R2.3")
@pytest.mark.parametrize("column", ["body", "stream", "id", "put_at", "keep"])
def test_a_damaged_entry_becomes_a_dead_letter(column: str, tmp_path: Path) -> None:
    """Whatever of it is not what was put; the next one of the stream is served, and a person cannot send it either."""
    path = tmp_path / "f.l.a.spool"
    filled(path, 6)
    with closing(sqlite3.connect(path)) as db:
        table = "body" if column == "body" else "entry"
        value = {"body": b"other", "stream": "s0", "id": "other", "put_at": 1.0, "keep": 0}[column]
        seq = 2 if column == "stream" else 1
        db.execute(f"UPDATE {table} SET {column} = ? WHERE seq = ?", (value, seq))
        db.commit()
    told: list[DeadEntry] = []
    with closing(opened(path)) as spool:
        spool.listen("prefect", Listener(on_put=lambda: None, on_dead=told.append))
        heads = {entry.stream: entry.id for entry in spool.heads("prefect")}
        served = [entry.id for entry in spool.entries("prefect")]
        assert [dead.reason for dead in told] == ["damaged on the disk: it is not what was put"]
        assert len(served) == 5
        if column != "stream":
            assert heads == {"s0": "id3", "s1": "id1", "s2": "id2"}
        with pytest.raises(DamagedLetter, match="rpa spool discard"):
            spool.retry(told[0].entry.id)
        assert spool.discard(told[0].entry.id)


@pytest.mark.requirement("R2.3")
@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\0" * 8, b"garbage " * 4000, b"\0" * 8192])
def test_a_file_that_is_no_spool_is_put_aside(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is renamed, never deleted, with an ERROR; a new one takes its place. An empty one is merely new."""
    path = tmp_path / "f.l.a.spool"
    path.write_bytes(content)
    with closing(opened(path)) as spool:
        spool.put(New("a", "prefect", "s", b"x"))
        assert [entry.id for entry in spool.heads("prefect")] == ["a"]
    aside = list(tmp_path.glob("*.damaged-*"))
    if content:
        assert [each.read_bytes() for each in aside] == [content]
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    else:
        assert aside == []


@pytest.mark.requirement("R2.3")
def test_somebody_elses_database_is_left_as_it_is(tmp_path: Path) -> None:
    """It is put aside whole."""
    path = tmp_path / "f.l.a.spool"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE entry (other TEXT)")
        db.execute("INSERT INTO entry VALUES ('precious')")
        db.commit()
    with closing(opened(path)) as spool:
        spool.put(New("a", "prefect", "s", b"x"))
    (aside,) = tmp_path.glob("*.damaged-*")
    with closing(sqlite3.connect(aside)) as db:
        assert db.execute("SELECT other FROM entry").fetchall() == [("precious",)]


@pytest.mark.requirement("R2.3")
def test_a_file_that_breaks_while_it_is_open_is_replaced(tmp_path: Path) -> None:
    """Who finds it out begins a new file, and the work goes on there."""
    path = tmp_path / "f.l.a.spool"
    filled(path)
    with closing(opened(path)) as spool:
        with path.open("r+b") as file:
            file.write(b"\xa5" * path.stat().st_size)
        assert spool.entries("prefect") == []
        for number in range(100, 103):
            spool.put(New(f"id{number}", "prefect", "s", b"x"))
        assert [entry.id for entry in spool.entries("prefect")] == ["id100", "id101", "id102"]
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    with closing(opened(path)) as spool:
        assert [entry.id for entry in spool.entries("prefect")] == ["id100", "id101", "id102"]


@pytest.mark.requirement("R2.3")
def test_what_can_be_read_of_a_broken_file_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Entries on sound pages are served from the new file, under their ids and in order; dead letters and notes too."""
    path = tmp_path / "f.l.a.spool"
    filled(path)
    with closing(opened(path)) as spool:
        spool.bury(spool.heads("prefect")[0], "refused")
        spool.remember("prefect", "n", b"v")
    with closing(sqlite3.connect(path)) as db:  # the root of the index of ids
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entry_in_order'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with closing(opened(path)) as spool:
        assert [entry.id for entry in spool.entries("prefect", "s1")] == [f"id{n}" for n in range(1, 60, 3)]
        assert [entry.id for entry in spool.heads("prefect")] == ["id1", "id2", "id3"]
        assert [(dead.entry.id, dead.reason) for dead in spool.dead()] == [("id0", "refused")]
        assert spool.notes("prefect") == {"n": b"v"}
        assert spool.about["flow"] == "f"
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    assert "60 entries of it go on" in caplog.text


@pytest.mark.requirement("R2.3")
@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_serve_nothing_wrong(seed: int, tmp_path: Path) -> None:
    """Wherever some bytes change: what is served is what was put, in order, and new entries are taken."""
    path = tmp_path / "f.l.a.spool"
    filled(path)
    rand = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(rand.choice((1, 3, 20))):
        content[rand.randrange(len(content))] ^= rand.randrange(1, 256)
    if seed % 5 == 0:
        del content[rand.randrange(len(content)) :]
    path.write_bytes(bytes(content))
    with closing(opened(path)) as spool:
        spool.put(New("id100", "prefect", "s9", body_of(100)))
        last: dict[str, int] = {}
        for _ in range(100):
            heads = spool.heads("prefect")
            for entry in heads:
                number = int(entry.id.removeprefix("id"))
                assert entry.body == body_of(number)
                assert entry.stream == ("s9" if number == 100 else f"s{number % 3}")
                assert number > last.get(entry.stream, -1)
                last[entry.stream] = number
                spool.acknowledge(entry.id)
            if not heads:
                break
        assert last["s9"] == 100
        assert spool.heads("prefect") == []


@pytest.mark.requirement("R2.3")
@pytest.mark.parametrize("seed", range(20))
def test_a_torn_log_is_a_shorter_log(seed: int, tmp_path: Path) -> None:
    """The log cut or overwritten at any byte leaves whole puts, the first ones, in order: SQLite sees to that."""
    path = tmp_path / "f.l.a.spool"
    with closing(opened(path)) as spool:
        for batch in range(12):
            spool.put(*(New(f"id{batch * 5 + n}", "prefect", "s", body_of(batch * 5 + n)) for n in range(5)))
        copy = tmp_path / "copy"
        copy.mkdir()
        torn = copy / path.name
        torn.write_bytes(path.read_bytes())
        log = bytearray(path.with_name(path.name + "-wal").read_bytes())
    rand = random.Random(seed)
    at = rand.randrange(len(log))
    log[at:] = rand.randbytes(len(log) - at) if seed % 2 else b""
    torn.with_name(torn.name + "-wal").write_bytes(bytes(log))
    with closing(opened(torn)) as spool:
        found = [entry.id for entry in spool.entries("prefect")]
        assert found == [f"id{n}" for n in range(len(found))]
        assert len(found) % 5 == 0
        assert not spool.dead()
        assert not list(copy.glob("*.damaged-*"))
