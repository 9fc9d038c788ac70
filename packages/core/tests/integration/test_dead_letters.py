"""What people do about records that were set aside: list, show, retry, discard, correct; and what a typo gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rpa_core.cli.main import main
from rpa_core.store import dead_letters, lookup
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, Rejected, enqueue, set_aside
from rpa_core.store.retention import drop_expired, rotate
from rpa_testkit.databases import Database
from rpa_testkit.waits import until

from .engine import Engine
from .ledger_steps import FLOW, end, fill, one, open_ledger, records, take, together

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rpa(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an `rpa` command in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", database.dsn)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


@pytest.fixture
def set_aside_5(database: Database) -> Database:
    """Records k0 to k4 are set aside as rejected, and 200 lines of a file as unreadable."""
    fill(database.dsn, 5)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), dead="rejected")
    ledger.close()
    with connect(database.dsn) as connection, connection.transaction():
        set_aside(
            connection,
            FLOW,
            [Rejected(b'{"line": %d, "excerpt": "a,,b"}' % n, f"f.csv:{n}:ab", ("bad",)) for n in range(200)],
        )
    return database


def _states(dsn: str, *keys: str) -> list[str]:
    with connect(dsn) as connection:
        found = [lookup.record_status(connection, FLOW, key) for key in keys]
    return [status.state if status else "none" for status in found]


def _place(dsn: str) -> list[tuple[int, int]]:
    """How many records are in how many places: always one."""
    with connect(dsn) as connection:
        return connection.execute(
            "SELECT places, count(*) FROM (SELECT"
            " (SELECT count(*) FROM rpa.result s WHERE s.period = r.period AND s.record_id = r.id)"
            " + (SELECT count(*) FROM rpa.dead_letter d WHERE d.period = r.period AND d.record_id = r.id)"
            " + (SELECT count(*) FROM rpa.chunk c WHERE c.period = r.period AND c.flow = r.flow"
            "    AND r.id BETWEEN c.lo AND c.hi AND (c.ids IS NULL OR r.id = ANY(c.ids))) AS places"
            " FROM rpa.record r) x GROUP BY 1 ORDER BY 1"
        ).fetchall()


@pytest.mark.requirement("N5", "R8.7")
def test_all_of_a_list_is_printed_as_json_and_pages_follow_each_other(set_aside_5: Database, rpa: Run) -> None:
    """People get 50 and the command for the next page; programs get all, or as many as they ask for."""
    code, out, err = rpa("records", "failed", FLOW)
    assert (code, out.count("rejected, 1"), out.count("unreadable")) == (0, 5, 45)
    after = err.partition("--after ")[2].partition(",")[0]
    code, out, err = rpa("records", "failed", FLOW, "--after", after, "--limit", 1000)
    assert (code, out.count("unreadable"), err) == (0, 155, "")
    _, out, err = rpa("records", "failed", FLOW, "--json")
    assert (len(out.splitlines()), err) == (205, "")
    _, out, err = rpa("records", "failed", FLOW, "--json", "--kind", "unreadable", "--limit", 3)
    assert ([json.loads(line)["payload"]["line"] for line in out.splitlines()], err) == ([0, 1, 2], "")


@pytest.mark.requirement("N5")
def test_a_record_is_shown_whole(database: Database, rpa: Run) -> None:
    """Payload and result to the letter, by key or by id; digits beyond 64 bits and lone surrogates included."""
    payload = b'{"n":\n 123456789012345678901234567890, "s": "\\ud800", "f": 1.10}'
    with connect(database.dsn) as connection, connection.transaction():
        enqueue(connection, FLOW, [NewRecord(payload, "odd")])
    _, out, _ = rpa("records", "show", FLOW, "odd", "--json")
    assert payload.decode().replace("\n", " ") in out
    shown = json.loads(out)
    assert (shown["state"], shown["key"], shown["history"]) == ("ready", "odd", [])
    assert json.loads(rpa("records", "show", FLOW, "--id", shown["record_id"], "--json")[1]) == shown
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), data=b'{"big":123456789012345678901234567890,"s":"\\ud800"}')
    ledger.close()
    _, out, _ = rpa("records", "status", FLOW, "odd", "--json")
    assert (json.loads(out)["state"], json.loads(out)["result"]["big"]) == ("done", 123456789012345678901234567890)
    assert "123456789012345678901234567890" in rpa("records", "show", FLOW, "odd")[1]
    assert rpa("records", "show", FLOW)[0] == 64
    assert rpa("records", "show", FLOW, "--id", 5)[0] == 65


@pytest.mark.requirement("N5")
def test_what_is_discarded_is_counted_seen_and_leaves_with_its_period(set_aside_5: Database, rpa: Run) -> None:
    """By key, kind, age or all, never by a retry again; its period can be dropped, and the act stays on record."""
    dsn = set_aside_5.dsn
    code, out, err = rpa("records", "discard", FLOW, "k0", "nokey", "--yes", "--reason", "test data", "--json")
    assert (code, json.loads(out)) == (65, {"flow": FLOW, "discarded": 1, "not_done": {"nokey": "no such record"}})
    assert rpa("records", "discard", FLOW, "--kind", "unreadable", "--older-than", "1h", "--yes")[:2] == (
        0, f"0 records of {FLOW} discarded\n",
    )  # fmt: skip
    code, _, err = rpa("records", "discard", FLOW, "--all")
    assert (code, "204 records" in err, "--yes" in err) == (64, True, True)
    assert rpa("records", "discard", FLOW, "--kind", "unreadable", "--yes")[1] == f"200 records of {FLOW} discarded\n"
    assert _states(dsn, "k0", "k1", "f.csv:7:ab") == ["discarded", "set_aside", "discarded"]
    assert json.loads(rpa("records", "status", FLOW, "--json")[1])[FLOW]["set_aside"] == 4
    shown = json.loads(rpa("records", "show", FLOW, "k0", "--json")[1])
    assert (shown["state"], shown["reasons"], shown["payload"]) == (
        "discarded", ["rejected: no good", "at all"], {"number": 0},
    )  # fmt: skip
    assert [(act["act"], act["reason"]) for act in shown["history"]] == [("discard", "test data")]
    assert rpa("records", "retry", FLOW, "k0")[0] == 65
    assert json.loads(rpa("records", "retry", FLOW, "--kind", "rejected", "--json")[1])["put_back"] == 4
    assert len(rpa("records", "failed", FLOW, "--discarded", "--json")[1].splitlines()) == 201
    assert rpa("records", "failed", FLOW)[1] == f"nothing of {FLOW} is set aside\n"
    acts = [json.loads(line) for line in rpa("records", "history", FLOW, "--json")[1].splitlines()]
    assert [(act["n"], act["kinds"]) for act in acts] == [(200, {"unreadable": 200}), (1, {"rejected": 1})]
    exact = json.loads(rpa("records", "status", FLOW, "--exact", "--json")[1])[FLOW]
    assert (exact["ready"], exact["set_aside"], exact["discarded"]) == (4, 0, 201)
    assert _place(dsn) == [(1, 205)]
    ledger = open_ledger(dsn)
    end(ledger, take(ledger))
    ledger.close()
    with connect(dsn) as connection:
        rotate(connection, period_days=0)
        assert drop_expired(connection, retention_days=0) == [1]
        assert [act.n for act in dead_letters.acts(connection)] == [200, 1]


@pytest.mark.requirement("N5")
def test_a_mistaken_discard_is_undone(set_aside_5: Database, rpa: Run) -> None:
    """While the period is kept: `retry --discarded`, by key or by kind."""
    assert rpa("records", "discard", FLOW, "--kind", "rejected", "--yes")[0] == 0
    assert json.loads(rpa("records", "retry", FLOW, "k1", "--discarded", "--json")[1])["put_back"] == 1
    assert json.loads(rpa("records", "retry", FLOW, "--all", "--discarded", "--json")[1])["put_back"] == 4
    assert _states(set_aside_5.dsn, "k0", "k1") == ["ready", "ready"]


@pytest.mark.requirement("N5", "R5.4")
def test_a_discard_and_a_put_back_at_the_same_moment(database: Database) -> None:
    """Each record is taken by one of the two."""
    fill(database.dsn, 400, chunk_size=100)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), dead="rejected")
    ledger.close()

    def discard() -> int:
        with connect(database.dsn) as connection:
            return sum(dead_letters.discard(connection, FLOW).values())

    def put_back() -> int:
        with connect(database.dsn) as connection:
            return lookup.put_back(connection, FLOW)

    discarded, other, queued = together(discard, discard, put_back)
    assert _place(database.dsn) == [(1, 400)]
    with connect(database.dsn) as connection:
        assert one(connection, "SELECT count(*) FROM rpa.dead_letter WHERE discarded IS NOT NULL") == discarded + other
        assert one(connection, "SELECT coalesce(sum(n), 0) FROM rpa.chunk") == queued
        assert sum(act.n for act in dead_letters.acts(connection)) == discarded + other


@pytest.mark.requirement("N5", "R8.7")
def test_200_bad_lines_are_corrected_at_once(set_aside_5: Database, rpa: Run, tmp_path: Path) -> None:
    """The edited list is given back: what was edited is queued in its place, the rest stays, a repeat is harmless."""
    dsn = set_aside_5.dsn
    lines = rpa("records", "failed", FLOW, "--kind", "unreadable", "--json")[1].splitlines()
    assert rpa("records", "retry", FLOW, "f.csv:3:ab")[0] == 65
    edited = tmp_path / "bad.ndjson"
    big = "123456789012345678901234567890"
    edited.write_text(
        "\n".join(
            line if number == 7 else line.replace(json.dumps({"line": number, "excerpt": "a,,b"}), f'{{"n": {big}}}')
            for number, line in enumerate(lines)
        )
    )
    code, out, err = rpa("records", "correct", FLOW, edited, "--reason", "two commas")
    assert (code, out) == (0, f"199 records of {FLOW} corrected and queued\n")
    assert "1 not changed" in err
    assert _states(dsn, "f.csv:6:ab", "f.csv:7:ab") == ["ready", "set_aside"]
    shown = json.loads(rpa("records", "show", FLOW, "f.csv:6:ab", "--json")[1])
    assert shown["payload"] == {"n": int(big)}
    (act,) = shown["history"]
    assert (act["act"], act["reason"], act["kind"], act["reasons"], act["payload"]["line"]) == (
        "correct", "two commas", "unreadable", ["bad"], 6,
    )  # fmt: skip
    code, out, _ = rpa("records", "correct", FLOW, edited, "--json")
    assert (code, len(json.loads(out)["missing"]), json.loads(out)["corrected"]) == (65, 199, [])
    assert _place(dsn) == [(1, 205)]
    ledger = open_ledger(dsn)
    claim = take(ledger)
    assert claim.n == 199
    assert len(end(ledger, claim)) == len(claim.chunks)
    ledger.close()


@pytest.mark.requirement("N5")
def test_a_correction_gets_the_key_that_its_payload_has(set_aside_5: Database, rpa: Run, tmp_path: Path) -> None:
    """As another record; a key that the flow has already leaves the dead letter where it is, and is named."""
    dsn = set_aside_5.dsn
    one_line = tmp_path / "line.json"
    one_line.write_text('{"id": "real", "v": 1}\n')
    assert rpa("records", "correct", FLOW, one_line, "--record", "f.csv:0:ab", "--key", "id")[0] == 0
    assert _states(dsn, "f.csv:0:ab", "real") == ["discarded", "ready"]
    (act,) = json.loads(rpa("records", "show", FLOW, "f.csv:0:ab", "--json")[1])["history"]
    assert (act["act"], act["new_key"]) == ("correct", "real")
    code, _, err = rpa("records", "correct", FLOW, one_line, "--record", "f.csv:1:ab", "--key", "id")
    assert (code, "another record under that key" in err) == (65, True)
    assert _states(dsn, "f.csv:1:ab") == ["set_aside"]
    assert _place(dsn) == [(1, 206)]


@pytest.mark.requirement("N5", "N3")
def test_many_corrections_are_queued_in_chunks_of_a_thousand(database: Database, rpa: Run, tmp_path: Path) -> None:
    """All in one transaction; a record that comes twice is refused, with nothing changed."""
    fill(database.dsn, 2500)
    ledger = open_ledger(database.dsn)
    end(ledger, take(ledger), dead="rejected")
    ledger.close()
    lines = [f'{{"key": "k{number}", "payload": {{"n": {number}}}}}\n' for number in range(2500)]
    file = tmp_path / "all.ndjson"
    file.write_text("".join([*lines, lines[0]]))
    code, _, err = rpa("records", "correct", FLOW, file)
    assert (code, "twice" in err) == (65, True)
    assert _states(database.dsn, "k0", "k2499") == ["set_aside", "set_aside"]
    file.write_text("".join(lines))
    assert rpa("records", "correct", FLOW, file)[:2] == (0, f"2500 records of {FLOW} corrected and queued\n")
    with connect(database.dsn) as connection:
        assert connection.execute("SELECT n FROM rpa.chunk ORDER BY n DESC").fetchall() == [(1000,), (1000,), (500,)]
    assert _place(database.dsn) == [(1, 2500)]


@pytest.mark.requirement("N5", "R7.7")
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"record_id": 1, "payload": {"a": NaN}}', "NaN"),
        ('{"record_id": 1}', "payload"),
        ('{"payload": 1}', "key"),
        ('{"key": "nobody", "payload": 1}', "nobody"),
        ('{"record_id": true, "payload": 1}', "number of a record"),
        (f'{{"record_id": {2**63}, "payload": 1}}', "number of a record"),
        ("[1]", "no JSON object"),
        ('{"record_id": 1, "payload": 1} {}', "more than one"),
        ('{"record_id": 1, "payload": ' + "[" * 100_000, "line 2"),
        ("\udcff", "line 2"),
    ],
)
def test_a_line_that_is_no_correction_changes_nothing(
    set_aside_5: Database, rpa: Run, tmp_path: Path, line: str, word: str
) -> None:
    """Exit 65 and the number of the line; the lines before it are not corrected either."""
    good = json.loads(rpa("records", "failed", FLOW, "--json", "--limit", 1)[1]) | {"payload": "corrected"}
    file = tmp_path / "bad.ndjson"
    file.write_bytes((json.dumps(good) + "\n").encode() + line.encode("utf-8", "surrogateescape"))
    code, _, err = rpa("records", "correct", FLOW, file)
    assert (code, word in err, "line 2" in err, err.count("\n")) == (65, True, True, 1), err
    assert _states(set_aside_5.dsn, "k0") == ["set_aside"]


@pytest.mark.requirement("N1", "N5")
def test_a_record_that_nothing_lists_is_unknown_and_can_be_queued(database: Database, rpa: Run) -> None:
    """Never `ready`; its key puts it back, once however many do so at the same moment."""
    fill(database.dsn, 3)
    with connect(database.dsn) as connection:
        connection.execute("DELETE FROM rpa.chunk")
        (found,) = lookup.find(connection, FLOW, keys=["k1"])
    code, out, err = rpa("records", "status", FLOW, "k1")
    assert (code, "unknown" in out, "records retry" in err) == (0, True, True)

    def queue() -> int:
        with connect(database.dsn) as connection:
            return len(lookup.queue_lost(connection, FLOW, [found.record_id]))

    assert sum(together(queue, queue, queue)) == 1
    code, out, _ = rpa("records", "retry", FLOW, "k0", "k1", "--json")
    assert (code, json.loads(out)) == (65, {"flow": FLOW, "put_back": 1, "not_done": {"k1": "ready"}})
    assert _states(database.dsn, "k0", "k1", "k2") == ["ready", "ready", "unknown"]


@pytest.mark.requirement("R8.7")
def test_keys_that_cannot_be_retried_are_named(set_aside_5: Database, rpa: Run) -> None:
    """What can be put back is; unknown keys, and those that were not set aside, are an error."""
    with connect(set_aside_5.dsn) as connection, connection.transaction():
        enqueue(connection, FLOW, records(1, prefix="new"))
    code, out, err = rpa("records", "retry", FLOW, "k0", "nokey", "new0", "f.csv:1:ab", "k0")
    assert (code, out) == (65, f"1 records of {FLOW} put back\n")
    assert "nokey not: no such record" in err
    assert "new0 not: ready" in err
    assert "f.csv:1:ab not: unreadable" in err
    assert rpa("records", "retry", FLOW, "k1")[0] == 0
    assert rpa("records", "retry", FLOW, "k2", "--all")[0] == 64


@pytest.mark.requirement("R6.5")
def test_pause_works_before_the_first_record(database: Database, rpa: Run) -> None:
    """The flow is made and paused at once; a name that is installed nowhere needs --create."""
    code, _, err = rpa("records", "pause", "rpa_1")
    assert (code, "did you mean" in err, "--create" in err) == (64, True, True)
    with connect(database.dsn) as connection:
        assert one(connection, "SELECT count(*) FROM rpa.flow") == 0
    assert rpa("records", "pause", "rpa1")[:2] == (0, "rpa1 is paused\n")
    assert rpa("records", "pause", FLOW, "--create")[:2] == (0, f"{FLOW} is paused\n")
    fill(database.dsn, 2)
    ledger = open_ledger(database.dsn)
    assert ledger.claim(records=10, chunks=10) is None
    assert rpa("records", "resume", FLOW)[0] == 0
    assert take(ledger).n == 2
    ledger.close()


@pytest.mark.requirement("R7.7")
@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("failed",),
        ("retry", "--all"),
        ("requeue",),
        ("discard", "--all", "--yes"),
        ("show", "k0"),
        ("pause",),
        ("resume",),
        ("history",),
        ("correct", "/dev/null"),
        ("status", "k0"),
    ],
)
def test_a_typo_is_no_flow(database: Database, rpa: Run, command: tuple[str, ...]) -> None:
    """Exit 64, the nearest name, and no trace of it afterwards."""
    fill(database.dsn, 1)
    code, out, err = rpa("records", command[0], "stesp", *command[1:])
    assert (code, out, f"did you mean {FLOW}?" in err) == (64, "", True), err
    assert list(json.loads(rpa("records", "status", "--json")[1])) == [FLOW]


@pytest.mark.requirement("R7.7")
def test_a_refused_load_leaves_no_flow_to_be_seen(database: Database, rpa: Run, tmp_path: Path) -> None:
    """Neither in the status nor as a name that other commands would take."""
    bad = tmp_path / "bad.ndjson"
    bad.write_text('{"a": 1}\nno\n')
    assert rpa("records", "load", "typo", bad, "--bad-lines", "reject")[0] == 65
    assert rpa("records", "status", "--json")[:2] == (0, "{}\n")
    assert rpa("records", "pause", "typo")[0] == 64


@pytest.mark.requirement("N2")
@pytest.mark.parametrize("style", ["German, DMY", "Postgres, MDY", "SQL, DMY"])
def test_no_command_depends_on_the_date_style(set_aside_5: Database, rpa: Run, style: str) -> None:
    """Every command that reads a time works, whatever role or database have set."""
    with connect(set_aside_5.dsn) as connection:
        connection.execute(f"ALTER DATABASE \"{set_aside_5.name}\" SET datestyle = '{style}'")
        connection.execute(f"ALTER DATABASE \"{set_aside_5.name}\" SET timezone = 'Asia/Kathmandu'")
    for command in (
        ("db", "status"),
        ("db", "migrate"),
        ("db", "retain"),
        ("records", "failed", FLOW, "--json"),
        ("records", "show", FLOW, "k0", "--json"),
        ("records", "discard", FLOW, "k0", "--yes"),
        ("records", "history", "--json"),
        ("records", "retry", FLOW, "--all"),
        ("records", "requeue", FLOW),
    ):
        code, _, err = rpa(*command)
        assert code == 0, (command, err)


@pytest.mark.requirement("N2", "R6.2")
def test_a_worker_runs_and_retains_under_any_date_style(engine: Engine) -> None:
    """A style that the driver cannot read, and a snapshot that is as old as its transaction, stop no worker."""
    name = engine.dsn.rpartition("/")[2]
    engine.enqueue({"n": number} for number in range(3))
    engine.ask("UPDATE rpa.period SET opened_at = opened_at - interval '100 days'")
    for setting in ("datestyle = 'German, DMY'", "default_transaction_isolation = 'repeatable read'"):
        engine.ask(f'ALTER DATABASE "{name}" SET {setting}')
    worker = engine.start()
    assert engine.settle() == {"done": 3}
    until(lambda: engine.ask("SELECT count(*) FROM rpa.period") == [(2,)], 20, "a new period", engine.describe)
    assert "retention.blocked" not in worker.process.log_text()
    assert engine.rpa("db", "status").wait(30) == 0
