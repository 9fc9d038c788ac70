"""Which file a file is, as `rpa records load` knows it, and files, streams and options that are odd."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpa_core.cli.main import main
from rpa_core.errors import InputError
from rpa_core.formats import Format
from rpa_core.runtime.loading import LoadPlan, load
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue

from .engine import Engine

Load = Callable[..., dict[str, Any]]


@pytest.fixture
def loaded(engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Load:
    """Runs `rpa records load act ... --json` within this process; the last file's counts, `code` and `text`."""
    monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", engine.dsn)

    def run(*arguments: object) -> dict[str, Any]:
        capsys.readouterr()
        code = main(["records", "load", "act", *map(str, arguments), "--json"])
        written = capsys.readouterr()
        counts = json.loads(written.out.splitlines()[-1]) if written.out else {}
        assert "Traceback" not in written.err
        return counts | {"code": code, "text": written.err}

    return run


def _file(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _texts(engine: Engine) -> list[str]:
    return [row[0] for row in engine.ask("SELECT payload::text FROM rpa.record ORDER BY id")]


@pytest.mark.requirement("N1", "R9.4")
def test_two_files_of_one_name_are_told_apart(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """In two folders, or one after the other in one place, also where rows and bad lines are equal; each loads once."""
    first, second = "shop,sold\nA,5\nB,7\nbad\n", "shop,sold\nA,5\nB,9\nbad\n"
    monday = _file(tmp_path / "mon" / "export.csv", first)
    tuesday = _file(tmp_path / "tue" / "export.csv", second)
    assert loaded(monday, tuesday)["accepted"] == 2
    assert engine.ask("SELECT count(*) FROM rpa.record") == [(6,)]
    for file in (monday, tuesday):
        again = loaded(file)
        assert (again["accepted"], again["duplicates"], again["set_aside"]) == (0, 2, 0)
        assert (again["code"], again["unreadable"]) == (0, 1)
    assert loaded(_file(monday, "shop,sold\nA,5\n"))["accepted"] == 1  # a third day, in the first one's place
    moved = _file(tmp_path / "archive" / "export.csv", second)
    packed = _file(tmp_path / "packed" / "export.csv", gzip.compress(second.replace("\n", "\r\n").encode()))
    assert loaded(moved)["duplicates"] == loaded(packed)["duplicates"] == 2
    assert engine.ask("SELECT count(*) FROM rpa.record") == [(7,)]


@pytest.mark.requirement("N1", "R9.4")
@pytest.mark.parametrize("rows", [3, 2500])
def test_of_a_file_that_has_grown_only_what_is_new_is_loaded(
    engine: Engine, loaded: Load, tmp_path: Path, rows: int
) -> None:
    """Twice, with bad lines in between; a file that only begins alike is another one."""
    text = "id,x\n" + "".join(f"{n},{n % 7}\n" for n in range(rows)) + "broken\n"
    file = _file(tmp_path / "log.csv", text)
    assert (loaded(file)["accepted"], loaded(file)["duplicates"]) == (rows, rows)
    for grown in (1, 2):
        text += f"new{grown},1\nbroken\n"
        counts = loaded(_file(file, text))
        assert (counts["accepted"], counts["duplicates"], counts["set_aside"]) == (1, rows + grown - 1, 1)
        assert loaded(file)["accepted"] == 0
    other = text.replace("new2,1", "new2,2")
    assert loaded(_file(file, other))["accepted"] == 1  # the second growth alone is another one
    assert loaded(_file(file, "id,x\nother,0\n" + text.partition("\n")[2]))["accepted"] == rows + 3


@pytest.mark.requirement("N1", "R9.4")
def test_streams_are_told_apart_and_known_again(engine: Engine, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams with an equal row are two; the same one sent again changes nothing."""

    def piped(data: bytes, *options: str) -> int:
        read_end, write_end = os.pipe()
        os.write(write_end, data)
        os.close(write_end)
        with os.fdopen(read_end) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            return int(loaded("-", "--format", "csv", *options)["accepted"])

    one, two = b"shop,sold\nA,5\nB,7\n", b"shop,sold\nA,5\nB,9\n"
    assert [piped(data) for data in (one, two, one, two)] == [2, 2, 0, 0]
    assert piped(one, "--source", "till 7") == 2
    assert len(_texts(engine)) == 6


@pytest.mark.requirement("N1", "R9.4")
def test_a_named_source_knows_rows_one_by_one(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """Of a corrected file only what was corrected is loaded; another name is another source."""
    file = _file(tmp_path / "a.csv", "id,x\n1,a\n2\n3,c\n")
    assert loaded(file, "--source", "march")["accepted"] == 2
    counts = loaded(_file(file, "id,x\n1,a\n2,b\n3,c\n"), "--source", "march")
    assert (counts["accepted"], counts["duplicates"]) == (1, 2)
    assert loaded(file, "--source", "april")["accepted"] == 3
    assert engine.ask("SELECT count(*) FROM rpa.record WHERE starts_with(key, 'march:2:')") == [(1,)]
    refused = loaded(file, file, "--source", "may")
    assert (refused["code"], "one by one" in refused["text"]) == (64, True)
    for wrong in ("", "a\nb", "x" * 201):
        assert loaded(file, "--source", wrong)["code"] == 64


@pytest.mark.requirement("N1", "R9.4")
def test_a_corrected_file_is_not_loaded_a_second_time(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """An earlier file's unreadable line is readable now, its other rows are there: refused with what to do."""
    file = _file(tmp_path / "a.csv", "id,x\n1,a\n2\n3,c\n")
    assert loaded(file)["accepted"] == 2
    refused = loaded(_file(file, "id,x\n1,a\n2,b\n3,c\n"))
    assert (refused["code"], "load the corrected lines alone" in refused["text"]) == (65, True)
    assert loaded(_file(tmp_path / "b" / "a.csv", "id,x\n2,b\n"))["accepted"] == 1
    assert loaded(_file(file, "id,x\n1,a\n2\n3,other\n"))["accepted"] == 2
    assert len(_texts(engine)) == 7


@pytest.mark.requirement("N1", "R9.4")
def test_what_earlier_versions_loaded_is_not_loaded_again(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """Their keys were those of a source called as the file: a file known by them is known, an unclear one refused."""

    def old(line: int, payload: bytes) -> NewRecord:
        return NewRecord(payload, f"a.csv:{line}:{hashlib.blake2b(payload, digest_size=6).hexdigest()}")

    with connect(engine.dsn) as connection:
        enqueue(connection, "act", [old(2, b'{"id":"1","x":"a"}'), old(3, b'{"id":"2","x":"b"}')])
    file = _file(tmp_path / "a.csv", "id,x\n1,a\n2,b\n")
    assert (loaded(file)["accepted"], loaded(file)["duplicates"]) == (0, 2)
    refused = loaded(_file(file, "id,x\n1,a\n2,c\n"))
    assert (refused["code"], len(_texts(engine))) == (65, 2)
    assert "1 of its first 2 rows were loaded before" in refused["text"]
    assert "--source 'a.csv'" in refused["text"]
    assert loaded(file, "--source", "a.csv")["accepted"] == 1
    assert loaded(_file(tmp_path / "b.csv", "id,x\n1,a\n"))["accepted"] == 1


@pytest.mark.requirement("N1")
def test_a_file_that_changes_while_it_is_read_is_refused(engine: Engine) -> None:
    """What the second pass reads must be what the first has read; nothing is loaded else."""

    class Changing(io.BytesIO):
        def seek(self, at: int, whence: int = 0) -> int:
            self.write(b"3,c\n")  # at the end, where the first pass has left it
            return super().seek(at, whence)

    plan = LoadPlan(flow="act", form=Format.CSV)
    with connect(engine.dsn) as connection, pytest.raises(InputError, match="changed while it was read"):
        load(connection, plan, Changing(b"id,x\n1,a\n2,b\n"), "a.csv")
    assert _texts(engine) == []


@pytest.mark.requirement("N1", "R7.7")
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,x\n1,a,\n2,b,\n"), ("b.ndjson", '[\n{"a": 1},\n{"a": 2},\n]\n'), ("c.csv", "id,x\n1;a\n2;b\n")],
)
def test_a_file_of_bad_lines_alone_is_a_failure(
    engine: Engine, loaded: Load, tmp_path: Path, name: str, content: str
) -> None:
    """Every line is kept, the next file is loaded, and the exit code says that something is wrong: each time."""
    file, good = _file(tmp_path / name, content), _file(tmp_path / "good.csv", "id\n1\n")
    for accepted in (1, 0):
        counts = loaded(file, good)
        assert (counts["code"], counts["accepted"]) == (65, accepted)
        assert f"not one line of {name} could be read" in counts["text"]
    bad = content.count("\n") - (1 if name.endswith("csv") else 0)
    assert engine.ask("SELECT count(*) FROM rpa.dead_letter") == [(bad,)]
    assert loaded(_file(tmp_path / "empty.csv", "id\n"))["code"] == 0


@pytest.mark.requirement("N1", "R7.7")
def test_odd_files_are_loaded_or_named(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """Names in other encodings or with line ends, folders, what cannot be read: one line and an exit code."""
    odd = [os.fsdecode(b"M\xfcller.csv"), "a\nb\x1b[31m.csv", "{x} [red] %s.csv", "x" * 250 + ".csv"]
    for name in odd:
        counts = loaded(_file(tmp_path / name, "a,b\n1,2\n3\n"))
        assert (counts["code"], counts["accepted"], counts["set_aside"]) == (0, 1, 1), counts
    assert all(key.isprintable() for (key,) in engine.ask("SELECT key FROM rpa.record"))
    for path, code in ((tmp_path, 65), (Path("/proc/self/mem"), 74), (tmp_path / "missing", 65)):
        counts = loaded(path, "--format", "csv")
        assert (counts["code"], len(counts["text"].splitlines())) == (code, 1), counts
        assert str(path) in counts["text"]


@pytest.mark.requirement("N1", "R7.7")
def test_options_are_honoured_or_refused_before_anything_is_loaded(
    engine: Engine, loaded: Load, tmp_path: Path
) -> None:
    """Delimiter, header and encoding mean something for each file, or none is loaded."""
    csv, lines = (
        _file(tmp_path / "a.csv", "a§b\n1§2\n"),
        _file(tmp_path / "b.ndjson", '{"a":"Größe"}'.encode("latin-1")),
    )
    for options in (("--delimiter", "§"), ("--no-header",)):
        refused = loaded(csv, lines, *options)
        assert (refused["code"], "options of csv and tsv" in refused["text"]) == (64, True)
    for wrong in ("", "\\\\", "\\n", "ab", "\\x0a"):
        assert loaded(csv, "--delimiter", wrong)["code"] == 64
    for form in ("csv", "tsv", "ndjson", "json"):
        assert loaded(lines, "--format", form, "--encoding", "utf-88")["code"] == 65
    assert _texts(engine) == []
    assert loaded(csv, "--delimiter", "§")["accepted"] == 1
    assert loaded(lines, "--encoding", "latin-1")["accepted"] == 1
    assert loaded(_file(tmp_path / "c.csv", "a\\b\n1\\2\n"), "--delimiter", "\\", "--no-header")["accepted"] == 2
    assert loaded(_file(tmp_path / "d.csv", "a\tb\n1\t2\n"), "--delimiter", "\\t")["accepted"] == 1
    assert _texts(engine) == [
        '{"a":"1","b":"2"}', '{"a":"Größe"}', '{"1":"a","2":"b"}', '{"1":"1","2":"2"}', '{"a":"1","b":"2"}',
    ]  # fmt: skip


@pytest.mark.requirement("N1", "R7.7")
def test_a_load_that_cannot_be_reported_is_done_all_the_same(engine: Engine, tmp_path: Path) -> None:
    """stdout is full: every file is loaded, stderr says so, and the exit code is 74."""
    files = [str(_file(tmp_path / name, "id\n1\n")) for name in ("a.csv", "b.csv")]
    argv = [sys.executable, "-m", "rpa_core.cli.main", "records", "load", "act", *files]
    environment = os.environ | {"CONTAINER_DATABASE_RPA_DB_URL": engine.dsn}
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert done.returncode == 74, done.stderr
    for name in ("a.csv", "b.csv"):
        assert f"{name}: 1 records into act" in done.stderr.decode()
    assert os.strerror(errno.ENOSPC) in done.stderr.decode()
    assert len(_texts(engine)) == 2


@pytest.mark.requirement("N3", "R6.5")
def test_an_own_file_may_unpack_to_any_size(engine: Engine, loaded: Load, tmp_path: Path) -> None:
    """What the intake refuses as a bomb is a file of repeated rows here; one huge field is within --max-line-bytes."""
    rows = b"t,v\n" + b"20.5," + b"ok" * 1000 + b"\n"
    rows += rows[4:] * 1000
    packed = _file(tmp_path / "rep.csv.gz", gzip.compress(rows, 9))
    assert len(rows) > 300 * packed.stat().st_size
    big = _file(tmp_path / "big.csv", "a,b\n1," + "x" * 2_000_000 + "\n")
    assert loaded(big)["set_aside"] == 1
    assert loaded(big, "--max-line-bytes", "3000000", "--source", "big")["accepted"] == 1
    assert loaded(packed, "--key", "t")["accepted"] == 1
