"""`rpa` as a process: whatever its streams, its locale, its database and its options are, there is no traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import psycopg
import pytest

from rpa_core.cli.commands import group
from rpa_core.cli.main import main
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.databases import Database
from rpa_testkit.waits import until

ALLOWED = {0, 1, 64, 65, 69, 74, 75, 77, 78, 141}
HOSTILE = "k\x1b]0;t\x07\n12:00:00 CRITICAL root \u202edrow\u2069 [red]bold[/red] \x9b\u2028\u200b"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass
class Rpa:
    """Runs `rpa` in a process of its own, in an environment with a database."""

    folder: Path
    environ: dict[str, str]
    programs: list[str] = field(default_factory=lambda: [sys.executable, "-m", "rpa_core.cli.main"])

    def __call__(
        self, *args: str, shell: str = "", more: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Its result; `shell` are redirections of its streams."""
        program = ["sh", "-c", f'"$@" {shell}', "sh", *self.programs, *args]
        environ = {**self.environ, **(more or {})}
        return subprocess.run(
            program, capture_output=True, env=environ, cwd=self.folder, timeout=60, check=False, input=b""
        )


@pytest.fixture
def rpa(database: Database, tmp_path: Path) -> Rpa:
    """The command, over a migrated database in which a flow has dead letters with hostile texts."""
    with connect(database.dsn, autocommit=False) as connection:
        enqueue(connection, "odd", [NewRecord(b'{"a": "\\ud800", "n": 1e400, "i": 123456789012345678901}', HOSTILE)])
        enqueue(connection, "odd", [NewRecord('{"a":\n"\u202e\xe4\u274c"}'.encode(), "\u274c\xe4")])
        connection.execute(
            "INSERT INTO rpa.dead_letter (record_id, period, flow, kind, tries, reasons)"
            " SELECT id, period, flow, 'rejected', 1, ARRAY[key, %s] FROM rpa.record",
            ("a reason\n\x1b[2Jrpa: forged [/] \u274c",),
        )
    (tmp_path / "ok.csv").write_text("a\n1\n")
    (tmp_path / "spool").mkdir()
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("CONTAINER_", "RPA_", "PG"))}
    mine = {
        "CONTAINER_DATABASE_RPA_DB_URL": database.dsn,
        "CONTAINER_SPOOL_DIR": str(tmp_path / "spool"),
        "CONTAINER_HEALTH_PORT": "0",
        "CONTAINER_LOG_LEVEL": "warning",
        "PYTHONPATH": str(Path(__file__).parent.parent / "support"),
    }
    return Rpa(tmp_path, inherited | mine)


LOAD = ("records", "load", "odd", "ok.csv")
LOAD_STDIN = ("records", "load", "odd", "--format", "csv", "-")
STATUS = ("records", "status")
FAILED = ("records", "failed", "odd")
SHOW = ("config", "show", "--json")
HEALTH = ("health", "--url", "http://127.0.0.1:1/")
RUN = ("run", "worker_flows:ACT", "--until-empty")
PRINTED: tuple[tuple[str, ...], ...] = (
    STATUS,
    FAILED,
    ("records", "show", "odd", HOSTILE),
    ("config", "schema"),
    ("spool", "status"),
)
# By what is odd about the process: commands that meet it in different ways, redirections, variables.
SITUATIONS: dict[str, tuple[tuple[tuple[str, ...], ...], str, dict[str, str]]] = {
    "stdin closed": ((LOAD_STDIN, STATUS), "<&-", {}),
    "stdout closed": ((SHOW, LOAD, STATUS, RUN), ">&-", {}),
    "stderr closed": ((HEALTH, LOAD, FAILED, RUN), "2>&-", {}),
    "all closed": ((LOAD_STDIN, RUN, ("spool", "failed")), "<&- >&- 2>&-", {}),
    "stdout full": ((("--help",), SHOW, LOAD, STATUS, FAILED), ">/dev/full", {}),
    "stderr full": ((HEALTH, LOAD_STDIN, RUN), "2>/dev/full", {}),
    "stdin breaks": ((LOAD_STDIN,), "</proc/self/mem", {}),
    "C locale": (PRINTED, "", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "cp1252": (PRINTED, "", {"PYTHONIOENCODING": "cp1252"}),
    "ascii": (PRINTED, "", {"PYTHONIOENCODING": "ascii:strict"}),
    "no folders": ((STATUS, RUN), "", {"HOME": "/nowhere", "TMPDIR": "/nowhere"}),
    "away": ((RUN,), "", {"CONTAINER_DATABASE_RPA_DB_URL": "{away}"}),
    "no such database": ((RUN,), "", {"CONTAINER_DATABASE_RPA_DB_URL": "{dsn}_not_there"}),
    "not migrated": ((RUN,), "", {"CONTAINER_DATABASE_RPA_DB_URL": "{postgres}"}),
}


def _databases(dsn: str) -> dict[str, str]:
    return {
        "dsn": dsn,
        "away": "postgresql://u@127.0.0.1:1/d",
        "postgres": dsn.rpartition("/")[0] + "/postgres",
        "no such database": f"{dsn}_not_there",
        "no such role": re.sub("//[^@]*@", "//no_such@", dsn),
    }


@pytest.mark.requirement("R1.1", "N4")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_command_ends_with_a_traceback(rpa: Rpa, situation: str) -> None:
    """An allowed exit code whatever the streams, the locale and the database are, and a message where it is not 0."""
    commands, redirected, more = SITUATIONS[situation]
    names = _databases(rpa.environ["CONTAINER_DATABASE_RPA_DB_URL"])
    more = {"CONTAINER_DEPENDENCY_TIMEOUT": "0.5"} | {name: text.format_map(names) for name, text in more.items()}
    wrong = []
    for command in commands:
        ended = rpa(*command, shell=redirected, more=more)
        said = ended.stderr + ended.stdout
        unexpected = [word for word in (b"Traceback", b"[RPA000]", b"Exception ignored") if word in said]
        if ended.returncode not in ALLOWED or unexpected:
            wrong.append((command, ended.returncode, said[-300:]))
        if ended.returncode != 0 and not said and "2>" not in redirected:
            wrong.append((command, ended.returncode, b"without a word"))
    assert not wrong


CONNECTED: tuple[tuple[str, ...], ...] = (
    ("config", "check", "--connect"),
    ("db", "status", "--json"),
    ("db", "retain"),
    ("db", "repair-sequences"),
    ("db", "grants", "no_such_role", "--for", "read", "--apply"),
    ("records", "load", "odd", "ok.csv"),
    ("records", "status", "odd", "x"),
    ("records", "failed", "odd"),
    ("records", "history", "odd"),
    ("records", "retry", "odd", "--all"),
    ("records", "requeue", "odd"),
    ("records", "pause", "odd"),
    ("records", "discard", "odd", "no-such-key"),
)


@pytest.fixture
def within(
    rpa: Rpa, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `rpa` in this process, in the same folder and environment: (exit code, what it printed)."""
    monkeypatch.chdir(rpa.folder)
    for name in list(os.environ):
        if name.startswith(("CONTAINER_", "PG")):
            monkeypatch.delenv(name)

    def run(*args: str, **more: str) -> tuple[int, str]:
        for name, text in (rpa.environ | more).items():
            monkeypatch.setenv(name, text)
        code = main(args)
        out, err = capfd.readouterr()
        return code, err or out

    return run


@pytest.mark.requirement("R1.1", "R1.3")
@pytest.mark.parametrize("where", ["away", "no such database", "no such role", "postgres"])
def test_a_database_that_does_not_serve_is_a_message(
    rpa: Rpa, within: Callable[..., tuple[int, str]], where: str
) -> None:
    """Not there, refused, or without the schema: by every command that connects."""
    dsn = _databases(rpa.environ["CONTAINER_DATABASE_RPA_DB_URL"])[where]
    wrong = []
    for command in CONNECTED:
        code, said = within(*command, CONTAINER_DATABASE_RPA_DB_URL=dsn, CONTAINER_FLOW_NAME="odd")
        if code not in ALLOWED - {0, 64} and not (where == "postgres" and code == 0):
            wrong.append((command, code, said))
        if "Traceback" in said or "[RPA000]" in said or not said:
            wrong.append((command, code, said))
    assert not wrong


WRONG: tuple[tuple[str, ...], ...] = (
    ("records", "failed", "odd", "--limit", "-1"),
    ("records", "failed", "odd", "--limit", "0"),
    ("records", "failed", "odd", "--limit", "9" * 30),
    ("records", "failed", "odd", "--limit", "x"),
    ("records", "failed", "odd", "--kind", "x"),
    ("records", "pause", "Bad Name"),
    ("records", "resume", ""),
    ("records", "requeue", "a" * 42),
    ("records", "status", "../x"),
    ("records", "retry", "odd"),
    ("records", "load", "odd", "ok.csv", "--max-line-bytes", "-5"),
    ("records", "load", "Odd", "ok.csv"),
    ("records", "failed", "odd", "--database", "postgresql://u:CANARY%zz@127.0.0.1/d"),
    ("records", "failed", "odd", "--database", "CANARY"),
    ("db", "status", "--database", "mysql://u:CANARY@h/d"),
    ("run",),
    ("run", ":x"),
    ("run", ".m:F"),
    ("run", "m:"),
    ("run", "a b:F"),
    ("run", "no_such_module:FLOW"),
    ("run", "odd"),
    ("spool", "retry"),
    ("spool", "discard"),
    ("records", "correct", "Odd", "x"),
    ("records", "resume", "Odd"),
    ("db", "migrate", "--database", "CANARY"),
    ("config", "example", "--flow", ":x", "--nonsense"),
    ("config", "page", "--nonsense"),
    ("nonsense",),
    ("config", "check", "--nonsense\x1b[2J"),
)


@pytest.mark.requirement("R1.1")
def test_every_subcommand_is_tried() -> None:
    """One that is new is put into the lists above."""

    def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not isinstance(command, click.Group):
            yield path
            return
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from leaves(found, (*path, name))

    tried = [*CONNECTED, *WRONG, *(command for commands, _, _ in SITUATIONS.values() for command in commands)]
    assert [path for path in leaves(group(), ()) if not any(args[: len(path)] == path for args in tried)] == []


@pytest.mark.requirement("R1.1", "R7.2")
def test_a_wrong_call_is_64_and_says_what_is_wrong(within: Callable[..., tuple[int, str]]) -> None:
    """Values that no option takes, names that no flow has, places where no flow is: no raw text of PostgreSQL."""
    wrong = []
    for command in WRONG:
        code, said = within(*command)
        if code != 64 or not said or "Traceback" in said or "[RPA000]" in said or "CANARY" in said:
            wrong.append((command, code, said))
        if UNSAFE.search(said):
            wrong.append((command, -1, f"raw signs in {said}"))
    assert not wrong


@pytest.mark.requirement("R7.2")
def test_a_password_in_the_option_does_not_come_back(within: Callable[..., tuple[int, str]]) -> None:
    """Where the driver takes a part of the string for something else, and repeats it."""
    for dsn in ("host=127.0.0.1;password=CANARY dbname=d", "postgresql://u:CANARY@no.such.host.invalid/CANARY"):
        code, said = within("records", "failed", "odd", "--database", dsn)
        assert (code, "CANARY" in said) == (75, False), said
        code, said = within("db", "status", f"--database={dsn}")
        assert (code, "CANARY" in said) == (75, False), said


@pytest.mark.requirement("R1.1")
def test_an_interrupt_is_130_and_a_word(rpa: Rpa, database: Database) -> None:
    """Ctrl-C while a load waits for its input: nothing is loaded, and there is no traceback."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'rpa records' AND datname = current_database()"
    with (
        subprocess.Popen(
            [*rpa.programs, "records", "load", "never", "--format", "csv", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=rpa.environ,
        ) as process,
        psycopg.connect(database.dsn, autocommit=True) as connection,
    ):  # fmt: skip
        until(lambda: connection.execute(waiting).fetchone(), 30, "the load to wait")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, b"interrupted")


@pytest.mark.requirement("R1.1")
def test_bytes_that_are_no_text_are_a_wrong_call(rpa: Rpa) -> None:
    """A flow's name, a key or a URL in Latin-1."""
    calls: list[list[str | bytes]] = [
        ["records", "pause", b"M\xfc"],
        ["records", "status", "odd", b"\xff"],
        ["db", "status", "--database", b"\xff"],
    ]
    for args in calls:
        program: list[str | bytes] = ["sh", "-c", '"$@"', "sh", *rpa.programs, *args]
        ended = subprocess.run(program, capture_output=True, env=rpa.environ, timeout=60, check=False)
        assert (ended.returncode, b"UTF-8" in ended.stderr) == (64, True), ended.stderr


@pytest.mark.requirement("R8.7", "N2")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_never_breaks(rpa: Rpa, encoding: str) -> None:
    """Lone surrogates, numbers beyond floats, control characters: one line of ASCII for each record, to the letter."""
    ended = rpa("records", "failed", "odd", "--json", more={"PYTHONIOENCODING": f"{encoding}:strict"})
    assert (ended.returncode, ended.stderr) == (0, b"")
    lines = ended.stdout.decode("ascii").splitlines()
    assert [json.loads(line)["key"] for line in lines] == [HOSTILE, "\u274c\xe4"]
    assert '"n": 1e400, "i": 123456789012345678901' in lines[0]
    assert json.loads(lines[1])["payload"] == {"a": "\u202e\xe4\u274c"}
    shown = rpa("records", "status", "odd", HOSTILE, "--json", more={"PYTHONIOENCODING": f"{encoding}:strict"})
    assert json.loads(shown.stdout.decode("ascii"))["key"] == HOSTILE


@pytest.mark.requirement("R8.7")
def test_what_an_encoding_lacks_is_escaped(rpa: Rpa) -> None:
    """A list is whole in any locale."""
    ended = rpa("records", "failed", "odd", more={"PYTHONIOENCODING": "cp1252"})
    assert ended.returncode == 0
    assert ended.stdout.decode("cp1252").splitlines()[-3].startswith("\\u274c\xe4  rejected")


def _on_terminal(rpa: Rpa, args: Sequence[str], more: dict[str, str] | None = None) -> str:
    """What a person sees: stdout and stderr of a pseudo-terminal, decoded."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*rpa.programs, *args],
        stdin=slave, stdout=slave, stderr=slave, cwd=rpa.folder,
        env={**rpa.environ, "TERM": "dumb", "COLUMNS": "200", **(more or {})},
    ) as process:  # fmt: skip
        os.close(slave)
        pieces = list(_pieces(master))
        process.wait(60)
    os.close(master)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def _pieces(master: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            return
        if not piece:
            return
        yield piece


@pytest.mark.requirement("R8.7", "R7.2")
def test_records_cannot_drive_a_terminal(rpa: Rpa) -> None:
    """Keys and reasons on a terminal: nothing steers it, no line is forged, markup is text."""
    views: dict[str, Callable[[], str]] = {
        "failed": lambda: _on_terminal(rpa, ["records", "failed", "odd"]),
        "status": lambda: _on_terminal(rpa, ["records", "status", "odd", HOSTILE]),
        "unknown": lambda: _on_terminal(rpa, ["records", "status", "odd", HOSTILE + "x"]),
    }
    for name, view in views.items():
        seen = view()
        assert not UNSAFE.search(seen), name
        assert "[red]bold[/red]" in seen, name
        assert not [line for line in seen.splitlines() if line.startswith(("12:00:00", "rpa: forged"))], name


@pytest.mark.requirement("R8.7")
def test_a_files_name_may_look_like_anything(rpa: Rpa) -> None:
    """Markup, a format, escapes: the progress bar and the line afterwards show it, and the file is loaded."""
    name = "a{b}[red]\x1b[2J{task.no_such}.csv"
    (rpa.folder / name).write_text("a\n1\n")
    seen = _on_terminal(rpa, ["records", "load", "named", name], more={"TERM": "dumb"})
    assert "1 records into named" in seen
    assert "\x1b[2J" not in seen
    assert "a{b}[red]\\x1b[2J{task.no_such}.csv" in seen


@pytest.mark.requirement("N4")
def test_a_load_whose_streams_are_closed_loads(rpa: Rpa, database: Database) -> None:
    """Without stderr the file is loaded; with a full stdout it is, too, and exit code 74 and a line say what failed."""
    assert rpa("records", "load", "quiet", "ok.csv", shell="2>&-").returncode == 0
    ended = rpa("records", "load", "full", "ok.csv", shell=">/dev/full")
    loaded, failed = ended.stderr.decode().splitlines()
    assert (ended.returncode, "1 records into full" in loaded) == (74, True)
    assert "stdout cannot be written: No space left on device; what the command did before is done" in failed
    for file, redirected, name in (
        ("-", "</proc/self/mem", b"-"),
        ("/proc/self/mem", "", b"/proc/self/mem"),
        (".", "", b"."),
    ):
        ended = rpa("records", "load", "closed", "--format", "csv", file, shell=redirected)
        assert (ended.returncode, ended.stderr.count(b"\n")) in ((74, 1), (65, 1)), ended.stderr
        assert ended.stderr.startswith(b"rpa: " + name), ended.stderr
    ended = rpa("records", "load", "closed", "--format", "csv", "-", shell="<&-")
    assert (ended.returncode, b"stdin is closed" in ended.stderr) == (65, True)
    with psycopg.connect(database.dsn) as connection:
        found: dict[str, int] = dict(
            connection.execute("SELECT f.name, count(r) FROM rpa.flow f JOIN rpa.record r ON r.flow = f.id GROUP BY 1")
        )
    assert (found["quiet"], found["full"], "closed" in found) == (1, 1, False)


@pytest.mark.requirement("N4")
def test_a_reader_that_goes_is_seen_in_the_exit_code(rpa: Rpa) -> None:
    """As of any program in a pipe, 141: so a load with files left is not taken for done."""
    ended = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", *rpa.programs, "config", "schema"],
        capture_output=True, env=rpa.environ, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.requirement("R1.1")
def test_a_defect_is_one_line_and_its_place_is_one_variable_away(rpa: Rpa) -> None:
    """Exit code 70; RPA_TRACEBACK=1 prints where it happened, secrets hidden."""
    (rpa.folder / "broken.py").write_text(
        "import rpa_core.config.documents as d\n"
        "def wrong(*_):\n    raise KeyError('postgresql://u:CANARY@h/d \\x1b[2J')\n"
        "d.env_example = wrong\n"
        "import sys; from rpa_core.cli.main import main; sys.exit(main(['config', 'example']))\n"
    )
    rpa.programs = [sys.executable, "broken.py"]
    ended = rpa()
    assert (ended.returncode, ended.stderr.count(b"\n")) == (70, 1)
    assert b"rpa: a defect: KeyError: " in ended.stderr
    assert b"RPA_TRACEBACK=1" in ended.stderr
    shown = rpa(more={"RPA_TRACEBACK": "1"})
    assert (shown.returncode, b"Traceback" in shown.stderr, b"broken.py" in shown.stderr) == (70, True, True)
    assert b"CANARY" not in ended.stderr + shown.stderr
    assert not UNSAFE.search((ended.stderr + shown.stderr).decode())
