"""`rpa records` as people run it: what is loaded, what is refused, and that nothing is ever half loaded."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpa_core.cli.main import main
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, Rejected, enqueue, set_aside
from rpa_testkit.processes import WorkerProcess, WorkerProcesses
from rpa_testkit.waits import until

from .engine import Engine

_GOOD = "id,age,name\n" + "".join(f"r{number},{20 + number},Ann {number}\n" for number in range(10))
_MIB = 1024 * 1024
_MEASURED = (
    "import re, sys; from rpa_core.cli.main import main; code = main(sys.argv[1:]);"
    " print('peak', re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
)

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def rpa_process(engine: Engine) -> Run:
    """Runs an `rpa` command to its end, as a process; its exit code and what it wrote."""

    def run(*arguments: object) -> tuple[int, str]:
        process = engine.rpa(*map(str, arguments))
        return process.wait(60), process.log_text()

    return run


@pytest.fixture
def rpa(engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The same within this process: for the long lists of cases."""
    monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", engine.dsn)

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return code, written.out + written.err

    return run


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _loaded(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {name: found[name] for name in ("accepted", "duplicates", "set_aside")}


def _counts(engine: Engine) -> tuple[int, int, int]:
    """Records, chunks' records, dead letters."""
    ((records, queued, dead),) = engine.ask(
        "SELECT (SELECT count(*) FROM rpa.record), (SELECT coalesce(sum(n), 0) FROM rpa.chunk),"
        " (SELECT count(*) FROM rpa.dead_letter)"
    )
    return records, queued, dead


@pytest.mark.requirement("R9.4")
def test_a_file_is_loaded_once_however_often_it_comes(
    engine: Engine, rpa: Run, rpa_process: Run, tmp_path: Path
) -> None:
    """With a key field and without: the second time every line counts as a duplicate; the payload is kept."""
    csv, lines = _file(tmp_path, "a.csv", _GOOD), _file(tmp_path, "b.ndjson", '{"id": 7, "x": 1.50}\n\n{"id": 8}\n')
    code, output = rpa_process("records", "load", "act", csv, "--key", "id", "--json")
    assert (code, _loaded(output)) == (0, {"accepted": 10, "duplicates": 0, "set_aside": 0})
    code, output = rpa("records", "load", "act", csv, "--key", "id", "--json")
    assert (code, _loaded(output)) == (0, {"accepted": 0, "duplicates": 10, "set_aside": 0})
    for duplicates in (0, 2):
        code, output = rpa("records", "load", "act", lines)
        assert code == 0
        assert f"b.ndjson: {2 - duplicates} records into act, {duplicates} already there" in output
    assert engine.places() == {"unfinished": 12}
    assert engine.ask("SELECT payload::text FROM rpa.record WHERE payload::text LIKE '%%1.50%%'") == [
        ('{"id": 7, "x": 1.50}',)
    ]
    assert engine.ask("SELECT payload FROM rpa.record WHERE key = 'r3'") == [
        ({"id": "r3", "age": "23", "name": "Ann 3"},)
    ]


_BAD_LINES: list[tuple[str, bytes, str, int]] = [
    ("a.csv", b'id,age\nr1,"4"2\nr2,5\nr3,6\n', "quot", 2),
    ("c.csv", b"id,age\nr1,1\nr2,a\x00b\nr3,3\n", "NUL", 2),
    ("d.csv", b"id,age\nr1,1\nr2,caf\xe9\nr3,3\n", "utf-8", 2),
    ("e.csv", b"id,age\nr1,1\nr2\nr3,3,3,3\nr4,4\n", "fields", 2),
    ("f.ndjson", b'{"id": 1}\n{"id": \n[1]\n{"id": 4}\n', "JSON", 2),
    ("g.ndjson", b'{"id": "\\ud800"}\n{"id": 2}\n{"a": "\\u0000"}\n{"id": 3}\n', "", 2),
    ("h.csv", b"id,age\n" + b"r1," + b"9" * 2000 + b"\nr2,2\nr3,3\n", "1000", 2),
    ("i.ndjson", b'{"id": 1}\n{"id": null}\n{"id": ""}\n{"id": 4}\n', "key", 2),
    ("j.ndjson", b'{"id": "' + b"k" * 600 + b'"}\n{"id": "a\\u0000b"}\n{"id": 1}\n{"id": 2}\n', "key", 2),
]


@pytest.mark.requirement("R7.7", "R8.7")
@pytest.mark.parametrize(("name", "content", "word", "good"), _BAD_LINES, ids=[case[0] for case in _BAD_LINES])
def test_bad_lines_are_set_aside_or_refuse_the_file(
    engine: Engine, rpa: Run, tmp_path: Path, name: str, content: bytes, word: str, good: int
) -> None:
    """By default each is a dead letter with its line and reason; with `reject` nothing of the file is loaded."""
    file = _file(tmp_path, name, content)
    options = ("--key", "id", "--max-line-bytes", "1000")
    code, output = rpa("records", "load", "act", file, *options, "--bad-lines", "reject")
    assert code == 65, output
    assert "nothing was loaded" in output
    assert "line 2" in output or "line 3" in output or "line 4" in output or "line 1" in output
    assert word.lower() in output.lower()
    assert "Traceback" not in output
    assert _counts(engine) == (0, 0, 0)
    code, output = rpa("records", "load", "act", file, *options, "--json")
    assert code == 0, output
    counts = _loaded(output)
    assert counts["accepted"] == good
    assert counts["set_aside"] >= 1
    assert _counts(engine) == (good + counts["set_aside"], good, counts["set_aside"])
    code, shown = rpa("records", "failed", "act", "--json", "--kind", "unreadable")
    assert code == 0
    letters = [json.loads(line) for line in shown.splitlines()]
    assert all(f"{name} line " in letter["reasons"][0] for letter in letters)
    assert len(letters) == counts["set_aside"]
    code, output = rpa("records", "load", "act", file, *options, "--json")
    assert (code, _loaded(output)) == (0, {"accepted": 0, "duplicates": good, "set_aside": 0})


_REFUSED: list[tuple[str, bytes, tuple[str, ...], int, str]] = [
    ("cut.csv.gz", gzip.compress(_GOOD.encode() * 500)[:-300], (), 65, "cut"),
    ("garbage.csv.gz", gzip.compress(_GOOD.encode())[:40] + b"\xff" * 200, (), 65, "gzip"),
    ("cut.json", b'[{"id": 1}, {"id": 2}, {"id"', (), 65, "end"),
    ("open.csv", b'id,age\nr1,1\nr2,2\nr3,"never closed\n', (), 65, "open.csv: line 4: the input ends inside a quoted"),
    ("empty.csv", b"", (), 65, "header"),
    ("twice.csv", b"id,id\n1,2\n", (), 65, "id"),
    ("nokey.csv", b"a,b\n1,2\n", ("--key", "id"), 65, "id"),
    ("what.bin", b"\x01\x02", (), 64, "format"),
    ("utf16.csv", _GOOD.encode("utf-16"), (), 65, "utf-16"),
    ("good.csv", _GOOD.encode(), ("--encoding", "no-such"), 65, "no-such"),
    ("good.csv", _GOOD.encode(), ("--delimiter", ";;"), 64, "the delimiter is ';;'"),
]


@pytest.mark.requirement("R7.7")
@pytest.mark.parametrize(
    ("name", "content", "options", "exit_code", "word"), _REFUSED, ids=[f"{case[0]}{len(case[2])}" for case in _REFUSED]
)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(
    engine: Engine,
    rpa: Run,
    tmp_path: Path,
    name: str,
    content: bytes,
    options: tuple[str, ...],
    exit_code: int,
    word: str,
) -> None:
    """One clear line, an exit code, and not one record."""
    code, output = rpa("records", "load", "act", _file(tmp_path, name, content), *options)
    assert code == exit_code, output
    assert word.lower() in output.lower()
    assert name in output or exit_code == 64
    assert "Traceback" not in output
    assert _counts(engine) == (0, 0, 0)


@pytest.mark.requirement("R7.7", "R9.4")
def test_of_several_files_each_stands_for_itself(engine: Engine, rpa_process: Run, tmp_path: Path) -> None:
    """The second of two is missing: the first is loaded and reported all the same."""
    code, output = rpa_process("records", "load", "act", _file(tmp_path, "a.csv", _GOOD), tmp_path / "missing.csv")
    assert code == 65
    assert "a.csv: 10 records into act" in output
    assert "missing.csv cannot be read: No such file or directory" in output
    assert engine.places() == {"unfinished": 10}


@pytest.mark.requirement("R6.2", "R7.7")
def test_memory_does_not_follow_the_file(
    engine: Engine, worker_process: WorkerProcesses, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A line of 50 MB and 10,000 bad lines among 60,000: a few megabytes more than a small file needs."""
    small = _file(tmp_path, "small.csv", _GOOD)
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.write(b"id,age\n")
        for number in range(30_000):
            file.write(b"r%d,%d\n" % (number, number))
            if number % 3 == 0:
                file.write(b"r%d,1,2,3\n" % number)
        file.write(b"huge," + b"x" * (50 * _MIB) + b"\n")
        for number in range(30_000, 60_000):
            file.write(b"r%d,%d\n" % (number, number))

    def load(path: Path) -> tuple[WorkerProcess, int]:
        argv = [sys.executable, "-c", _MEASURED, "records", "load", "act", str(path), "--key", "id", "--json"]
        process = worker_process("", {"CONTAINER_DATABASE_RPA_DB_URL": engine.dsn}, argv=argv)
        assert process.wait(90) == 0, process.log_text()
        return process, int(process.log_text().split("peak ")[1])

    _, small_kib = load(small)
    process, large_kib = load(large)
    counts = _loaded(process.log_text().split("peak")[0])
    assert counts == {"accepted": 59_990, "duplicates": 10, "set_aside": 10_001}
    grown_mib = (large_kib - small_kib) / 1024
    record_property("grown_mib", round(grown_mib, 1))
    assert grown_mib < 20
    assert _counts(engine) == (70_001, 60_000, 10_001)


@pytest.mark.requirement("R3.2", "R6.2")
def test_keys_are_looked_up_without_reading_the_table(engine: Engine) -> None:
    """In bulk, one by one and set aside, into a table that has just grown and has no statistics: by index only."""
    for part in range(4):
        engine.enqueue(({"n": number} for number in range(3000)), key=f"part{part}-")
        with connect(engine.dsn) as connection:
            for number in range(10):
                assert enqueue(connection, "act", [NewRecord(b"{}", f"single{part}-{number}")]).accepted == 1
                assert enqueue(connection, "act", [NewRecord(b"{}", f"part{part}-{number}")]).duplicates == 1
            assert set_aside(connection, "act", [Rejected(b"{}", f"bad{part}", ("no",))]) == 1
    read = "SELECT sum(seq_tup_read + idx_tup_fetch), sum(n_live_tup) FROM pg_stat_user_tables WHERE relname LIKE %s"
    entries = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE %s"
    until(lambda: engine.ask(read, "record_p%")[0][1] == 4 * 3011, 20, "the statistics")
    # 40 duplicates were met; a single look at the whole table would come to thousands
    assert engine.ask(read, "record_p%")[0][0] + engine.ask(entries, "record_p%")[0][0] < 1000


@pytest.mark.requirement("R9.4", "R8.7")
def test_what_was_set_aside_is_shown_and_put_back(engine: Engine, rpa: Run) -> None:
    """status, failed, retry by key, by kind and all; a record that fails again at once is put back once only."""
    engine.enqueue({"n": number, "do": "aside" if number < 3000 else "done"} for number in range(3010))
    engine.enqueue([{"n": "later", "do": "retry", "after_s": 3600}], key="later")
    engine.start()
    until(lambda: engine.unfinished() == 1, 20, "all but the retry", engine.describe)
    code, output = rpa("records", "status", "act", "--exact", "--json")
    shown = json.loads(output)["act"]
    assert (code, shown["waiting"], shown["done"], shown["set_aside"], shown["paused"]) == (0, 1, 10, 3000, False)
    assert "act" in rpa("records", "status")[1]
    code, output = rpa("records", "status", "act", "k3", "--json")
    assert (code, json.loads(output)["state"], json.loads(output)["reasons"]) == (
        0, "set_aside", ["never", "and again never"],
    )  # fmt: skip
    assert json.loads(rpa("records", "status", "act", "k3005", "--json")[1])["result"] == {"n": 3005, "attempt": 1}
    assert rpa("records", "status", "act", "nobody")[0] == 65
    code, output = rpa("records", "failed", "act", "--json", "--limit", "5")
    assert [json.loads(line)["key"] for line in output.splitlines()] == ["k0", "k1", "k2", "k3", "k4"]
    assert rpa("records", "retry", "act")[0] == 64
    assert json.loads(rpa("records", "retry", "act", "k0", "k1", "nobody", "--json")[1])["put_back"] == 2
    until(lambda: _counts(engine)[2] == 3000, 20, "them to fail again", engine.describe)
    assert json.loads(rpa("records", "retry", "act", "--kind", "crash", "--json")[1])["put_back"] == 0
    assert json.loads(rpa("records", "retry", "act", "--all", "--json")[1])["put_back"] == 3000
    until(lambda: _counts(engine)[2] == 3000, 20, "them to fail again", engine.describe)
    assert json.loads(rpa("records", "requeue", "act", "--json")[1])["requeued"] == 1
    tried = 3011 + 2 + 3000 + 1  # each once more for each time it was put back, and the requeued one
    until(lambda: sum(engine.seen().values()) >= tried, 20, "the requeued record to be tried", engine.describe)
    assert sum(engine.seen().values()) == tried


@pytest.mark.requirement("R1.1", "D4")
def test_the_schema_is_brought_and_shown(rpa_process: Run, survey_hub: Any) -> None:
    """`rpa db status` fails where something is missing, `migrate` brings it once, then both are content."""
    there = ("--database", survey_hub.dsn, "--json")
    code, output = rpa_process("db", "status", *there)
    rows = json.loads(output)["migrations"]
    assert (code, rows[0]) == (
        1, {"database": "rpa_db", "migration": "0001_ledger", "applied_at": None, "state": "missing"},
    )  # fmt: skip
    names = [row["migration"] for row in rows]
    assert json.loads(rpa_process("db", "migrate", *there)[1]) == {"applied": {"rpa_db": names}}
    assert json.loads(rpa_process("db", "migrate", *there)[1]) == {"applied": {"rpa_db": []}}
    code, output = rpa_process("db", "status", *there)
    assert code == 0
    shown = json.loads(output)
    assert {row["state"] for row in shown["migrations"]} == {"applied"}
    assert all(row["applied_at"] for row in shown["migrations"])
    assert (shown["encoding"], shown["missing_for_worker"]) == ("UTF8", [])
    assert [one["retention"] for one in shown["periods"]] == ["open"]


@pytest.mark.requirement("R2.2", "R7.7")
def test_commands_say_what_is_wrong(rpa: Run, rpa_process: Run, tmp_path: Path) -> None:
    """No database there, a bad flow name, an unknown command: a line, an exit code, no traceback."""
    nowhere = ("--database", "postgresql://postgres@127.0.0.1:1/rpa")
    some = tmp_path / "a.csv"
    some.write_text("id\n1\n")
    for arguments, exit_code, word in [
        (("records", "load", "No Flow!", some), 64, "use lower-case letters"),
        (("records", "status", *nowhere), 75, "cannot be reached"),
        (("db", "migrate", *nowhere), 75, "cannot be reached"),
        (("records", "lod", "act"), 64, "load"),
        (("run", "no-such-flow"), 64, "no flow is called"),
        (("run", "json:loads"), 64, "not a rpa_core.Flow"),
    ]:
        code, output = (rpa_process if arguments[0] == "run" else rpa)(*arguments)
        assert (code, word in output) == (exit_code, True), output
        assert "Traceback" not in output
