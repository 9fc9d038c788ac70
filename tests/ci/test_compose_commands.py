"""What `invoke compose.*` runs and says, with a `docker` that writes down how it is called."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ci.errors import ToolError
from ci.stack import operate, report, shell
from ci.stack.compose import Stack, compose, stack_of

FAKE = f"""#!{sys.executable} -IS
import json, os, sys
folder = os.environ["FAKE_DOCKER"]
with open(folder + "/calls", "a") as calls:
    print(json.dumps([sys.argv[1:], {{k: v for k, v in os.environ.items() if k.startswith("RPA_")}}]), file=calls)
answers = json.load(open(folder + "/answers"))
for words, code, out, err in answers:
    if all(word in " ".join(sys.argv).split() for word in words.split()):
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
"""


class Docker:
    """The fake: what it is asked, and what it answers to calls that have all of some words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: list[tuple[str, int, str, str]] = []
        (folder / "calls").touch()
        self.answer("config --services", out="\n".join(["postgres", "migrate", "rpa1", "rpa2", "rpa3", "haproxy"]))

    def answer(self, words: str, *, code: int = 0, out: str = "", err: str = "") -> None:
        self._answers.insert(0, (words, code, out, err))
        (self._folder / "answers").write_text(json.dumps(self._answers))

    def calls(self) -> list[list[str]]:
        return [call for call, _ in self._lines()]

    def environments(self) -> list[dict[str, str]]:
        return [environment for _, environment in self._lines()]

    def _lines(self) -> list[Any]:
        return [json.loads(line) for line in (self._folder / "calls").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(FAKE)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", str(tmp_path))
    monkeypatch.delenv("RPA_COMPOSE_PROJECT", raising=False)
    return Docker(tmp_path)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    variables = {"RPA_SECRETS_DIR": str(tmp_path / "secrets"), "RPA_ENV_DIR": str(tmp_path / "env")}
    return Stack(project="mine", variables=variables)


def container(service: str, *, state: str = "running", health: str = "healthy", code: int = 0) -> str:
    """One line of `docker compose ps --format json`."""
    port = {"URL": "127.0.0.1", "TargetPort": 8080, "PublishedPort": 8080, "Protocol": "tcp"}
    return json.dumps(
        {
            "Service": service,
            "Name": f"mine-{service}-1",
            "State": state,
            "Health": health,
            "ExitCode": code,
            "Publishers": [port] if service == "haproxy" else [],
        }
    )


WELL = "\n".join([container("migrate", state="exited", health=""), container("rpa1"), container("haproxy")])


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(("environment", "second"), [("development", "override"), ("production", "prod")])
def test_files_project_and_variables_of_an_environment(docker: Docker, environment: str, second: str) -> None:
    """The base file and the environment's own, under one project; images are chosen by RPA_ENVIRONMENT."""
    compose("ps", environment=environment, capture=True)
    (call,) = docker.calls()
    files = [Path(call[n + 1]).name for n, word in enumerate(call) if word == "--file"]
    assert files == ["compose.yml", f"compose.{second}.yml"]
    assert call[call.index("--project-name") + 1] == "rpa"
    assert docker.environments()[0]["RPA_ENVIRONMENT"] == environment


@pytest.mark.requirement("D2")
def test_a_stack_beside_another(docker: Docker, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """RPA_COMPOSE_PROJECT or an argument names it; its variables win over the shell's."""
    monkeypatch.setenv("RPA_COMPOSE_PROJECT", "second")
    monkeypatch.setenv("RPA_HTTP_PORT", "1")
    assert stack_of().project == "second"
    assert stack_of(project="third").project == "third"
    compose("ps", stack=Stack(project="mine", variables={"RPA_HTTP_PORT": "2"}), capture=True)
    assert docker.environments()[0]["RPA_HTTP_PORT"] == "2"
    with pytest.raises(ToolError, match="no environment 'staging'; give one of development, production"):
        stack_of("staging")


@pytest.mark.requirement("D2", "R5.7")
def test_up_makes_what_is_missing_waits_and_shows_addresses(
    docker: Docker, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets and env files first, then one `up` that waits, then a table."""
    docker.answer("ps", out=WELL)
    assert operate.up(build=False, timeout_s=77, stack=stack) == 0
    (call,) = [call for call in docker.calls() if "up" in call]
    assert call[call.index("up") :] == ["up", "--detach", "--wait", "--wait-timeout", "77", "--remove-orphans"]
    assert (stack.secrets / "server.key").exists()
    assert (stack.env / "rpa1.env").exists()
    said = capsys.readouterr().out
    assert "made postgres_password" in said
    assert "http://127.0.0.1:8080/records/rpa1" in said
    assert "done" in said


@pytest.mark.requirement("D2", "R2.4")
def test_up_that_fails_says_who_and_why(docker: Docker, stack: Stack) -> None:
    """The service that is not well, its last health check and its last lines; who waits for it is only named."""
    docker.answer("compose up", code=1)
    unwell = [
        container("rpa1", health="unhealthy"),
        container("rpa2"),
        container("haproxy", state="created", health=""),
    ]
    docker.answer("ps", out="\n".join([container("migrate", state="exited", code=78, health=""), *unwell]))
    docker.answer("logs mine-migrate-1", out="CONTAINER_DATABSE_URL: did you mean\n")
    docker.answer(
        "{{json .State.Health.Log}} mine-rpa1-1",
        out=json.dumps([{"Output": "old"}, {"Output": "NOT healthy: draining\n"}]),
    )
    with pytest.raises(ToolError) as caught:
        operate.up(build=False, stack=stack)
    said = str(caught.value)
    assert "mine-migrate-1: exited 78" in said
    assert "CONTAINER_DATABSE_URL: did you mean" in said
    assert "mine-rpa1-1: unhealthy" in said
    assert "health check: NOT healthy: draining" in said
    assert "wait for another: mine-haproxy-1" in said
    assert "mine-haproxy-1: created" not in said
    assert "mine-rpa2-1" not in said


@pytest.mark.requirement("D2", "R2.4")
def test_a_container_that_cannot_be_started_is_no_waiting_one(docker: Docker, stack: Stack) -> None:
    """A port that is taken leaves a created container; the engine's reason is shown, with what to do."""
    docker.answer("compose up", code=1)
    docker.answer("ps", out=container("haproxy", state="created", health=""))
    docker.answer("inspect {{.State.Error}}", out="Bind for 127.0.0.1:8080 failed: port is already allocated\n")
    with pytest.raises(ToolError) as caught:
        operate.up(build=False, stack=stack)
    assert "mine-haproxy-1: created\n  it could not be started: Bind for 127.0.0.1:8080" in str(caught.value)
    assert "choose another one in docker/env/stack.env" in str(caught.value)
    assert "wait for another" not in str(caught.value)


@pytest.mark.requirement("R1.1")
def test_production_without_an_address_is_not_started(docker: Docker, stack: Stack) -> None:
    """What is known to fail is said before anything is built or started."""
    with pytest.raises(ToolError, match="sets no CONTAINER_DELIVERY_URL"):
        operate.up(build=False, stack=replace(stack, environment="production"))
    assert docker.calls() == []


@pytest.mark.requirement("D2")
def test_down_keeps_the_data_unless_told(docker: Docker, stack: Stack) -> None:
    """Volumes go only with --volumes."""
    assert operate.down(stack=stack) == operate.down(volumes=True, stack=stack) == 0
    kept, dropped = (call[call.index("down") :] for call in docker.calls())
    assert (kept, dropped) == (["down", "--remove-orphans"], ["down", "--remove-orphans", "--volumes"])


@pytest.mark.requirement("D2")
def test_ps_tells_by_its_code(docker: Docker, stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """0 all is well, 1 something is not or nothing runs."""
    assert operate.ps(stack=stack) == 1
    assert "nothing runs under the name mine" in capsys.readouterr().out
    docker.answer("ps", out=WELL)
    assert operate.ps(stack=stack) == 0
    docker.answer("ps", out=WELL + "\n" + container("rpa2", state="restarting", health=""))
    assert operate.ps(stack=stack) == 1
    assert "restarting" in capsys.readouterr().out


@pytest.mark.requirement("D2", "R5.4")
def test_scale(docker: Docker, stack: Stack) -> None:
    """Only the named service changes; what makes no sense is refused with the reason."""
    docker.answer("ps", out=WELL)
    assert operate.scale(["rpa1=3"], stack=stack) == 0
    (call,) = [call for call in docker.calls() if "up" in call]
    assert {"--no-recreate", "--no-deps", "--wait", "rpa1=3"} <= set(call)
    assert call[-1] == "rpa1"
    for sizes, reason in (
        (["rpa1"], "write it like rpa1=3"),
        ([], "how many of what"),
        (["rpa9=2"], "no service rpa9; there are haproxy, migrate"),
        (["rpa1=17"], "more than the 16"),
    ):
        with pytest.raises(ToolError, match=reason):
            operate.scale(sizes, stack=stack)


@pytest.mark.requirement("D2")
def test_logs_and_restart_name_what_there_is(docker: Docker, stack: Stack) -> None:
    """A service that does not exist is an answer, not an empty log."""
    with pytest.raises(ToolError, match="no service rpa4; there are"):
        operate.logs(["rpa4"], stack=stack)
    assert operate.logs(["rpa1"], follow=True, tail=5, stack=stack) == 0
    assert docker.calls()[-1][-5:] == ["logs", "--follow", "--tail", "5", "rpa1"]
    assert operate.restart(["rpa1"], stack=stack) == 0
    assert docker.calls()[-1][-2:] == ["restart", "rpa1"]


@pytest.mark.requirement("R4.6")
def test_shells(docker: Docker, stack: Stack) -> None:
    """psql as the superuser of one of the two databases; a shell in the container that is asked for."""
    with pytest.raises(ToolError, match="no container of postgres runs in mine; nothing runs"):
        shell.database(stack=stack)
    docker.answer("ps", out="\n".join([container("postgres"), container("rpa1")]))
    assert shell.database("survey_hub", stack=stack) == 0
    assert docker.calls()[-1][-4:] == ["postgres", "psql", "--username=postgres", "--dbname=survey_hub"]
    with pytest.raises(ToolError, match="no database 'hub'; there are rpa_db and survey_hub"):
        shell.database("hub", stack=stack)
    assert shell.shell("rpa1", index=2, stack=stack) == 0
    call = docker.calls()[-1]
    assert call[call.index("--index") + 1] == "2"
    with pytest.raises(ToolError, match="no container of rpa2 runs in mine; running are postgres, rpa1"):
        shell.shell("rpa2", stack=stack)


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "Start Docker"),
        ("Bind for 127.0.0.1:8080 failed: port is already allocated", "docker/env/stack.env"),
        ("pull access denied for rpa-flow1", "invoke build.selective"),
    ],
)
def test_known_failures_come_with_advice(docker: Docker, stack: Stack, said: str, advice: str) -> None:
    """What Compose says, and what to do about it."""
    docker.answer("ps", code=1, err=f"{said}\n")
    with pytest.raises(ToolError) as caught:
        report.containers(stack)
    assert said in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.requirement("D2")
def test_without_docker(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The missing program is named, and how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="install Docker with its Compose plugin"):
        compose("ps", stack=stack)


@pytest.mark.requirement("R7.4")
def test_files_that_containers_cannot_read_are_named(tmp_path: Path, docker: Docker) -> None:
    """A checkout under a strict umask fails before the start, with the command that helps."""
    folder = tmp_path / "tree" / "docker" / "postgres"
    folder.mkdir(parents=True)
    (folder.parent / "env").mkdir()
    (folder / "pg_hba.conf").touch(mode=0o600)
    variables = {"RPA_SECRETS_DIR": str(tmp_path / "secrets"), "RPA_ENV_DIR": str(tmp_path / "env")}
    with pytest.raises(ToolError, match=r"cannot read docker/postgres/pg_hba\.conf.*chmod -R o\+rX docker/"):
        operate.prepare(Stack(root=tmp_path / "tree", variables=variables))
