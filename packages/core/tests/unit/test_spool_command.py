"""`rpa spool`: status, dead letters, and what a person decides about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from rpa_core.cli.main import _explain
from rpa_core.cli.spool import command
from rpa_core.errors import RpaError
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import New


def begin(folder: Path, incarnation: str, flow: str = "invoices") -> Spools:
    return open_spools(
        folder, flow=flow, label="host", incarnation=incarnation, max_bytes=2**20, max_age_s=1e6, reserve_bytes=0
    )


def rpa_spool(*args: str) -> int:
    """As `rpa spool ...`; the exit code."""
    try:
        command.main(list(args), prog_name="rpa spool", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 64
    except RpaError as error:
        _explain(error)
        return error.exit_code
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A living spool with two dead letters and one entry, and one of a dead process of another flow."""
    monkeypatch.setenv("CONTAINER_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    with closing(begin(tmp_path, "0ld", "orders")) as gone:
        gone.own.put(New("g1", "intake", "s", b"payload"))
    with closing(begin(tmp_path, "11fe")) as living:
        living.own.put(*(New(f"l{n}", "prefect", "run", b"body %d" % n) for n in range(3)))
        for entry in living.own.entries("prefect")[:2]:
            living.own.bury(entry, "HTTP 422: no such field")
        yield tmp_path


@pytest.mark.requirement("R2.3", "R2.4")
def test_status_shows_whose_each_spool_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flow, owner, living or not, and what waits of each kind."""
    assert rpa_spool("status") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["flow", "owner", "which", "kind", "entries", "bytes", "oldest", "dead"]
    assert [line[:5] for line in lines[1:]] == [
        ["invoices", "host:11fe", "runs", "prefect", "1"],
        ["orders", "host:0ld", "is", "gone", "intake"],
    ]
    assert lines[1][-1] == "2"
    assert rpa_spool("status", "--json") == 0
    found = {each["flow"]: each for each in json.loads(capsys.readouterr().out)["spools"]}
    assert (found["invoices"]["living"], found["orders"]["living"]) == (True, False)
    assert (found["invoices"]["kinds"]["prefect"]["entries"], found["invoices"]["kinds"]["prefect"]["dead"]) == (1, 2)
    assert {each.name for each in folder.glob("*.spool")} == {"invoices.host.11fe.spool", "orders.host.0ld.spool"}


@pytest.mark.requirement("R2.3", "R8.7")
def test_dead_letters_are_listed_and_decided(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their reasons; put back into the spool of a living process, or thrown away."""
    assert rpa_spool("failed") == 0
    out = capsys.readouterr().out
    assert "l0  prefect, 0 tries" in out
    assert "HTTP 422: no such field" in out
    assert rpa_spool("failed", "--json") == 0
    assert [json.loads(line)["body"] for line in capsys.readouterr().out.splitlines()] == ["body 0", "body 1"]
    assert rpa_spool("failed", "--kind", "intake") == 0
    assert capsys.readouterr().out == "no dead letters\n"
    assert rpa_spool("retry", "l0") == 0
    assert capsys.readouterr().out == "1 put back\n"
    assert rpa_spool("discard", "--all") == 0
    assert capsys.readouterr().out == "1 discarded\n"
    with closing(begin(folder, "0ther")):
        assert rpa_spool("status", "--json") == 0
    kinds = {each["owner"]: each["kinds"] for each in json.loads(capsys.readouterr().out)["spools"]}
    assert (kinds["host:11fe"]["prefect"]["entries"], kinds["host:11fe"]["prefect"]["dead"]) == (2, 0)
    assert kinds["host:0ther"] == {}


@pytest.mark.requirement("R2.3", "R7.2")
def test_an_answer_of_another_program_cannot_steer_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons hold what a server answered, owners what somebody named a worker: both are shown, and nothing obeys."""
    hostile = "HTTP 500 \x1b]0;t\x07\nrpa: forged [red]\u202e"
    with closing(begin(folder, "3vil", "[red]orders[/red]")) as spools:
        spools.own.put(New("e1", "prefect", "run", b"\xff\x1b"))
        for entry in spools.own.entries("prefect"):
            spools.own.bury(entry, hostile)
        assert rpa_spool("failed", "--json") == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if '"e1"' in line)
        assert line.isascii()
        assert json.loads(line)["body"] == "\\xff\x1b"
        assert rpa_spool("failed") == 0
        assert rpa_spool("status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("rpa:") for line in lines)
    assert any("HTTP 500 \\x1b]0;t\\x07\\nrpa: forged [red]\\u202e" in line for line in lines)


@pytest.mark.requirement("R2.4")
def test_what_is_wrong_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown ids, no choice, no folder, a damaged file: each has its way out, and one bad file hides no other."""
    assert rpa_spool("retry", "nobody", "l0") == 1
    said = capsys.readouterr()
    assert said.out == "1 put back\n"
    assert said.err == "rpa: no dead letter has the id nobody; `rpa spool failed` lists them\n"
    assert rpa_spool("retry") == 64
    assert "either ids, as `rpa spool failed` lists them, or --all" in capsys.readouterr().err
    assert rpa_spool("status", "--dir", str(folder / "nowhere")) == 74
    assert "is no folder; name the one that CONTAINER_SPOOL_DIR names" in capsys.readouterr().err
    (folder / "x.y.z.spool").write_bytes(b"garbage" * 1000)
    assert rpa_spool("status") == 1
    said = capsys.readouterr()
    assert "invoices" in said.out
    assert "x.y.z.spool: file is not a database; it is damaged" in said.err
    monkeypatch.delenv("CONTAINER_SPOOL_DIR")
    assert rpa_spool("status") == 64
    assert "--dir, or CONTAINER_SPOOL_DIR" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert rpa_spool("status", "--dir", str(folder / "empty")) == 0
    assert capsys.readouterr().out == f"no spools in {folder / 'empty'}\n"
