"""The `rpa` command in-process: lazy subcommands, exit codes, what `config` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rpa_core.cli import commands, main
from rpa_core.cli.flow_settings import Known
from rpa_core.errors import StoreRefused
from rpa_core.version import VERSION

PASSWORD = "c4n4ry-S3cr3t"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what these tests set."""
    import os

    for name in list(os.environ):
        if name.startswith("CONTAINER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_URL", f"postgresql://u:{PASSWORD}@h/d")


@pytest.mark.requirement("R1.1")
def test_every_listed_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists them without importing them; each can be imported and has help of its own."""
    assert main.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in commands.COMMANDS:
        assert name in listed
        assert main.main([name, "--help"]) == 0
        assert "sage: rpa" in capsys.readouterr().out
    assert main.main(["--version"]) == 0
    assert VERSION in capsys.readouterr().out


@pytest.mark.requirement("R1.1")
@pytest.mark.parametrize("args", [["nonsense"], ["config", "check", "--nonsense"], ["config", "nonsense"]])
def test_a_wrong_call_is_64(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors exit with sysexits' code and say what is there."""
    assert main.main(args) == 64
    assert "No such" in capsys.readouterr().err


@pytest.mark.requirement("R1.1")
def test_an_error_is_a_message_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for what is raised on purpose."""

    def refuse(*_: object, **__: object) -> None:
        raise StoreRefused("wrong password: correct it")

    monkeypatch.setattr("rpa_core.config.documents.env_example", refuse)
    assert main.main(["config", "example"]) == 77
    assert capsys.readouterr().err == "rpa: wrong password: correct it  [STO001]\n"


@pytest.mark.requirement("R1.1", "R1.4")
def test_check_reports_everything_and_exits_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems on stderr; as JSON on stdout; a flow that is not installed is one of them."""
    monkeypatch.setenv("CONTAINER_DATABSE_URL", PASSWORD)
    monkeypatch.setenv("CONTAINER_FLOW_NAME", "no-such-flow")
    assert main.main(["config", "check"]) == 78
    seen = capsys.readouterr()
    assert "Did you mean CONTAINER_DATABASE_RPA_DB_URL?" in seen.err
    assert "no flow is called 'no-such-flow'" in seen.err
    assert main.main(["config", "check", "--json"]) == 78
    report = json.loads(capsys.readouterr().out)
    assert len(report["checks"][0]["problems"]) == 2
    assert PASSWORD not in json.dumps(report) + seen.err + seen.out


@pytest.mark.requirement("R1.2", "R7.2")
def test_show_has_values_and_sources_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """Every variable, redacted, with where it came from; as a table and as JSON."""
    assert main.main(["config", "show"]) == 0
    table = capsys.readouterr().out
    assert main.main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["CONTAINER_DATABASE_RPA_DB_URL"] == {"value": "postgresql://u:********@h/d", "source": "environment"}
    assert shown["CONTAINER_LEASE_TTL"] == {"value": 10.0, "source": "default"}
    assert shown["CONTAINER_CPU_LIMIT"]["source"] == "cgroup limits"
    assert PASSWORD not in table + json.dumps(shown)


@pytest.mark.requirement("R1.2", "R1.1")
def test_show_has_what_is_set_beside_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values and sources of all that is sound, the problem beside what is not, exit code 78; secrets stay hidden."""
    monkeypatch.delenv("CONTAINER_DATABASE_RPA_DB_URL")
    monkeypatch.setenv("CONTAINER_DATABASE_RPA_DB_PASSWORD", PASSWORD)
    monkeypatch.setenv("CONTAINER_LEASE_TTL", "7s")
    monkeypatch.setenv("CONTAINER_CHUNK_SIZE", "no")
    monkeypatch.setenv("CONTAINER_UNKNOWN_THING", PASSWORD)
    assert main.main(["config", "show", "--json"]) == 78
    shown = json.loads(capsys.readouterr().out)
    assert shown["CONTAINER_LEASE_TTL"] == {"value": 7.0, "source": "environment"}
    assert shown["CONTAINER_MAX_TRIES"] == {"value": 5, "source": "default"}
    assert shown["CONTAINER_CPU_LIMIT"]["source"] == "cgroup limits"
    assert shown["CONTAINER_DATABASE_RPA_DB_PASSWORD"]["value"] == "********"
    assert "is required and not set" in shown["CONTAINER_DATABASE_RPA_DB_URL"]["problem"]
    assert shown["CONTAINER_CHUNK_SIZE"]["value"] is None
    assert "give a whole number" in shown["CONTAINER_CHUNK_SIZE"]["problem"]
    assert "unknown variable" in shown["CONTAINER_UNKNOWN_THING"]["problem"]
    assert main.main(["config", "show"]) == 78
    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "environment  PROBLEM: got a word of 2 letters; give" in table["CONTAINER_CHUNK_SIZE"]
    assert PASSWORD not in json.dumps(shown) + "".join(table.values())


@pytest.mark.requirement("R1.4")
def test_a_setting_of_another_flow_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config check` says how to check it."""
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Others(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="CONTAINER_")
        book: str = "a"

    monkeypatch.setattr("rpa_core.runtime.flows.settings_of_others", lambda: [Others])
    monkeypatch.setenv("CONTAINER_FLOW_NAME", "mine")
    monkeypatch.setenv("CONTAINER_BOOK", "b")
    monkeypatch.setattr("rpa_core.cli.flow_settings.about", lambda *_: Known())
    assert main.main(["config", "check"]) == 0
    out = capsys.readouterr().out
    assert "CONTAINER_BOOK  is a setting of another installed flow" in out
    assert "--flow FLOW" in out


@pytest.mark.requirement("R1.2")
def test_documents_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The example and the schema work without any configuration."""
    assert main.main(["config", "example"]) == 0
    assert "CONTAINER_LEASE_TTL=10" in capsys.readouterr().out
    assert main.main(["config", "schema"]) == 0
    assert "CONTAINER_LEASE_TTL" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.requirement("R5.1", "R7.2")
def test_health_shows_what_it_is_answered_without_obeying_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check's output on one line for people; JSON in ASCII, with numbers that JSON does not have as texts."""
    body = {
        "output": "a\x1b[2J\nhealthy",
        "checks": {"x\x9b": [{"status": "fail", "output": "\u202e"}]},
        "n": float("nan"),
    }
    monkeypatch.setattr("rpa_core.cli.health.ask", lambda *_: (False, body))
    monkeypatch.setattr("rpa_core.cli.health.announced", list)  # whatever else runs on this machine
    assert main.main(["health"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert main.main(["health", "--json"]) == 1
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed, parse_constant=lambda name: pytest.fail(name))["n"] == "nan"


@pytest.mark.requirement("R1.2", "R5.1")
def test_commands_read_a_variable_as_workers_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Line ends around it, ~, a file: the health check, the spool and run find what a worker would."""
    asked: list[str] = []

    def ask(url: str, _: float) -> tuple[bool, dict[str, object]]:
        asked.append(url)
        return True, {}

    monkeypatch.setattr("rpa_core.cli.health.ask", ask)
    monkeypatch.setenv("CONTAINER_HEALTH_PORT", "8181\r\n")
    monkeypatch.setenv("CONTAINER_HEALTH_HOST", "\ufeff127.0.0.1\n")
    assert main.main(["health"]) == 0
    assert asked == ["http://127.0.0.1:8181/health/ready"]
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("CONTAINER_SPOOL_DIR", "~/spool\n")
    assert main.main(["spool", "status"]) == 0
    assert f"no spools in {tmp_path}/spool" in capsys.readouterr().out
    (tmp_path / "flow").write_text("no_such_flow\r\n")
    monkeypatch.setenv("CONTAINER_FLOW_NAME_FILE", str(tmp_path / "flow"))
    assert main.main(["run"]) == 64
    assert "no flow is called 'no_such_flow'" in capsys.readouterr().err
    monkeypatch.setenv("CONTAINER_FLOW_NAME_FILE", str(tmp_path / "absent"))
    assert main.main(["run"]) == 78
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.requirement("R5.1")
def test_health_never_exits_with_anything_but_0_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Docker reserves 2: a wrong call is 1."""
    assert main.main(["health", "--nonsense"]) == 1
    assert main.main(["health", "--url", "file:///etc/passwd"]) == 1
    assert "must start with http" in capsys.readouterr().err
    assert main.main(["health", "--help"]) == 0
