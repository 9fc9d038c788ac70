"""The development loop on a real engine: real files, real events, a real worker on PostgreSQL."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ci.develop.containers import DockerEngine
from ci.develop.orchestrator import DevelopmentOrchestrator
from ci.images.command import selective
from ci.waits import until
from tests.ci.develop_fakes import CORE, FLOW, copy_workspace

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def docker(*arguments: str, check: bool = True) -> str:
    """What the command says on stdout."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def wait_for(condition: Any, what: str) -> Any:
    return until(condition, timeout_s=90, what=what, every_s=0.05)


@dataclass
class Stack:
    """A workspace of its own, the images made from it, and one worker in a container."""

    root: Path
    name: str  # of the project, and what every container's name begins with
    image: str
    said: list[str] = field(default_factory=list)

    @property
    def worker(self) -> str:
        return f"{self.name}-rpa2-1"

    def run(self, *options: str) -> None:
        """Start the worker as compose.override.yml does."""
        docker(
            *("run", "--detach", "--name", self.worker, "--network", self.name, "--tmpfs", "/tmp:mode=1777"),
            *("--label", f"com.docker.compose.project={self.name}", "--label", "com.docker.compose.service=rpa2"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "10001:10001"),
            *("--env", f"CONTAINER_DATABASE_RPA_DB_URL=postgresql://postgres:x@{self.name}-postgres/rpa_db"),
            *("--entrypoint", "rpa-reload", *(options or ("--init",)), self.image, "run", "--migrate"),
        )
        wait_for(lambda: self.inside("rpa", "health", "--scope", "startup") is not None, "the worker's start")

    def remove(self) -> None:
        docker("rm", "--force", self.worker, check=False)

    def inside(self, *command: str) -> str | None:
        """What a command in the container says; None where it fails."""
        done = subprocess.run(["docker", "exec", self.worker, *command], capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else None

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside("rpa-reload", "--status") or "{}")
        return found

    def identity(self) -> tuple[Any, ...]:
        """What must stay as it is: the container, its run, its image, its supervisor."""
        (found,) = json.loads(docker("inspect", self.worker))
        return (
            found["Id"],
            found["State"]["StartedAt"],
            found["RestartCount"],
            found["Image"],
            self.status()["supervisor"],
        )

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.worker], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("a") as file:
            file.write(text)

    def wait_for_line(self, part: str) -> str:
        return str(wait_for(lambda: next((line for line in self.said if part in line), None), f"a line with {part!r}"))


@pytest.fixture(scope="module")
def built(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The images of a copy of the workspace, a network and a database."""
    name = f"develop-{uuid.uuid4().hex[:8]}"
    root = copy_workspace(tmp_path_factory.mktemp("workspace"))
    (root / "pyproject.toml").write_text('[project]\nname = "copy"\nversion = "0.1.0"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RPA_IMAGE_PREFIX", f"{name}/")
        try:
            assert selective("development", ("rpa-flow2",), root=root) == 0
            docker("network", "create", name)
            docker(
                *(
                    "run",
                    "--detach",
                    "--name",
                    f"{name}-postgres",
                    "--network",
                    name,
                    "--tmpfs",
                    "/var/lib/postgresql/data",
                ),
                *("--env", "POSTGRES_PASSWORD=x", "--env", "POSTGRES_DB=rpa_db", "postgres:17-trixie"),
            )
            yield Stack(root=root, name=name, image=f"{name}/rpa-flow2:development")
        finally:
            docker("rm", "--force", "--volumes", f"{name}-postgres", check=False)
            docker("network", "rm", name, check=False)
            listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={name}/*")
            if listed:
                docker("image", "rm", "--force", *listed.split(), check=False)


@pytest.fixture
def stack(built: Stack) -> Iterator[Stack]:
    """With a worker in a fresh container; the workspace is as the images were made from it again afterwards."""
    before = {path: path.read_bytes() for path in built.root.rglob("*") if path.is_file()}
    built.said.clear()
    built.run()
    yield built
    built.remove()
    for path in [path for path in built.root.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.fixture
def watching(stack: Stack) -> Iterator[Stack]:
    """`invoke dev.watch` in a thread."""
    stop, ready = threading.Event(), threading.Event()
    orchestrator = DevelopmentOrchestrator(stack.root, project=stack.name, say=stack.said.append)
    watcher = threading.Thread(target=orchestrator.setup_hot_reloading, kwargs={"stop": stop, "ready": ready})
    watcher.start()
    assert ready.wait(60), stack.said
    yield stack
    stop.set()
    watcher.join(30)
    assert not watcher.is_alive()


@pytest.mark.requirement("R4.5", "R4.8")
def test_a_saved_file_is_live_without_a_rebuild(watching: Stack) -> None:
    """The worker alone restarts: the container, its run, its image and its supervisor stay."""
    before, child = watching.identity(), watching.status()["child"]
    assert watching.said[-1].startswith(f"watching for {watching.worker} (rpa-flow2)")
    watching.append(f"{FLOW}/rpa2/flow.py", "\nimport sys\nprint('saved once', file=sys.stderr)\n")
    line = watching.wait_for_line("rpa2/flow.py (edited)")
    assert f"-> rpa-flow2 -> {watching.worker}: sync, live after " in line
    assert "saved once" in watching.log()
    assert watching.inside("rpa", "health", "--scope", "live") is not None
    assert watching.identity() == before
    assert watching.status()["child"] != child


@pytest.mark.requirement("R4.5", "R4.8")
def test_core_files_come_go_and_change_their_names(watching: Stack) -> None:
    """Mode and owner are those of a built image; a folder that was renamed leaves nothing that could be imported."""
    place = "/app/core/rpa_core"
    old = watching.root / CORE / "formats"
    (watching.root / CORE / "extra").mkdir()
    (watching.root / CORE / "extra/__init__.py").write_text("ONE = 1\n")
    watching.wait_for_line("extra/__init__.py (created)")
    assert watching.inside("stat", "--format", "%a %U", f"{place}/extra/__init__.py") == "644 root"
    assert watching.inside("python", "-c", "import rpa_core.extra") is not None
    (watching.root / CORE / "extra").rename(watching.root / CORE / "other")
    watching.wait_for_line("other/__init__.py (renamed from")
    assert watching.inside("python", "-c", "import rpa_core.other; assert rpa_core.other.ONE == 1") is not None
    assert watching.inside("ls", f"{place}/extra") is None
    assert watching.inside("python", "-c", "import rpa_core.extra") is None
    (watching.root / CORE / "other/__init__.py").unlink()
    watching.wait_for_line("other/__init__.py (deleted)")
    assert watching.inside("ls", f"{place}/other") is None
    assert old.is_dir()
    assert watching.inside("ls", f"{place}/formats/__init__.py") is not None


@pytest.mark.requirement("R4.5")
def test_a_same_size_edit_within_a_second_is_seen(watching: Stack) -> None:
    """The image's compiled files are checked by content, so none is taken for a source of the same size and time."""
    probe = ("python", "-c", "from rpa_flows.rpa2 import settings; print(settings.MARK)")
    watching.append(f"{FLOW}/rpa2/settings.py", "\nMARK = 1\n")
    watching.wait_for_line("rpa2/settings.py (edited)")
    for number in range(2, 6):
        path = watching.root / FLOW / "rpa2/settings.py"
        path.write_text(path.read_text().replace(f"MARK = {number - 1}", f"MARK = {number}"))
        wait_for(lambda number=number: watching.inside(*probe) == str(number), f"mark {number}")


@pytest.mark.requirement("R4.5", "R4.8")
def test_a_recreated_container_is_brought_in_step(watching: Stack) -> None:
    """It comes up from the image; the files that were saved since follow without another save."""
    watching.append(f"{FLOW}/rpa2/flow.py", "\nimport sys\nprint('saved once', file=sys.stderr)\n")
    watching.wait_for_line("rpa2/flow.py (edited)")
    before = watching.identity()
    watching.remove()
    watching.run()
    watching.wait_for_line(f"{watching.worker} -> 1 files copied, 0 removed: sync, live after ")
    assert "saved once" in watching.log()
    assert watching.identity()[0] != before[0]


@pytest.mark.requirement("R4.5")
def test_a_restarted_container_keeps_what_was_synced(watching: Stack) -> None:
    """Nothing is copied again, and the worker is not restarted a second time."""
    watching.append(f"{FLOW}/rpa2/flow.py", "\nimport sys\nprint('saved once', file=sys.stderr)\n")
    watching.wait_for_line("rpa2/flow.py (edited)")
    said = len(watching.said)
    docker("restart", watching.worker)
    wait_for(lambda: watching.inside("rpa", "health", "--scope", "live") is not None, "the worker's life")
    watching.append(f"{FLOW}/rpa2/settings.py", "\n# another\n")
    watching.wait_for_line("rpa2/settings.py (edited)")
    assert len(watching.said) == said + 1
    assert watching.status()["generation"] == 2


@pytest.mark.requirement("R4.5")
def test_a_syntax_error_is_survived(watching: Stack) -> None:
    """The container lives on without a worker, says why, and the next save heals it."""
    before = watching.identity()
    path = watching.root / FLOW / "rpa2/flow.py"
    good = path.read_text()
    path.write_text(f"{good}\ndef broken(:\n")
    watching.wait_for_line("is not live: it ended with code 64")
    assert any("SyntaxError" in line for line in watching.said), watching.said
    assert watching.status()["state"] == "waiting"
    assert watching.identity() == before
    path.write_text(f"{good}\n# healed\n")
    watching.wait_for_line("sync, live after ")
    assert watching.identity() == before
    assert watching.inside("rpa", "health", "--scope", "live") is not None


@pytest.mark.requirement("R4.5", "R4.8")
def test_what_was_saved_while_nobody_watched(stack: Stack) -> None:
    """The first look of the next watch finds it, by content."""
    stack.append(f"{FLOW}/rpa2/settings.py", "\nMARK = 7\n")
    orchestrator = DevelopmentOrchestrator(stack.root, project=stack.name, say=stack.said.append)
    changes = orchestrator.detect_code_changes()
    assert [(one.path, one.images) for one in changes.files] == [(f"{FLOW}/rpa2/settings.py", ("rpa-flow2",))]
    (synced,) = orchestrator.synchronize()
    assert synced.step.put == ("/app/flow/rpa_flows/rpa2/settings.py",)
    assert orchestrator.synchronize() == []


@pytest.mark.requirement("R4.5")
def test_a_read_only_container_is_told_apart(built: Stack) -> None:
    """Nothing can be copied into it; what to do is said."""
    built.said.clear()
    built.run("--init", "--read-only")
    try:
        built.append(f"{FLOW}/rpa2/settings.py", "\nMARK = 8\n")
        orchestrator = DevelopmentOrchestrator(built.root, project=built.name, say=built.said.append)
        orchestrator.detect_code_changes()
        assert orchestrator.synchronize() == []
        assert any("its root file system is read-only" in line and "compose.up" in line for line in built.said)
    finally:
        built.remove()
        path = built.root / FLOW / "rpa2/settings.py"
        path.write_text(path.read_text().replace("\nMARK = 8\n", ""))


@pytest.mark.requirement("R4.5")
def test_the_supervisor_is_a_good_first_process(built: Stack) -> None:
    """Without an init it is process 1: SIGHUP and SIGTERM are heard, orphans leave no zombies."""
    built.run("--env", "NO_INIT=1")
    try:
        assert built.status()["supervisor"] == 1
        child = built.status()["child"]
        docker("kill", "--signal", "HUP", built.worker)
        wait_for(lambda: built.status().get("child") not in (child, None), "the next child")
        wait_for(lambda: built.inside("rpa", "health", "--scope", "live") is not None, "the worker's life")
        assert built.inside("sh", "-c", "(sleep 0.2 &) ; true") is not None
        states = "cat /proc/[0-9]*/stat | cut -d' ' -f3"
        wait_for(lambda: "Z" not in (built.inside("sh", "-c", states) or "Z"), "no zombies")
        docker("stop", "--time", "30", built.worker)
        assert json.loads(docker("inspect", built.worker))[0]["State"]["ExitCode"] == 0
    finally:
        built.remove()


class Client:
    """As much of the Debug Adapter Protocol as shows that a debugger is there."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._number = 0

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return self._number

    def until(self, kind: str, name: str) -> dict[str, Any]:
        """The next event or response of that name."""
        while True:
            length = 0
            while line := self._file.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            assert length, "the debugger hung up"
            message: dict[str, Any] = json.loads(self._file.read(length))
            if message["type"] == kind and message.get("event", message.get("command")) == name:
                return message

    def close(self) -> None:
        self._socket.close()


@pytest.mark.requirement("R4.6", "R4.8")
def test_a_debugger_attaches(stack: Stack) -> None:
    """It stops the worker at a line of a file of the workspace; afterwards the worker runs without it."""
    before = stack.identity()
    orchestrator = DevelopmentOrchestrator(stack.root, project=stack.name)
    with orchestrator.provide_debugging_access("rpa2", port=0) as access:
        assert stack.identity() == before
        client = Client(access.port)
        client.send("initialize", clientID="test", adapterID="debugpy", pathFormat="path")
        assert client.until("response", "initialize")["success"]
        mapping = {"localRoot": str(stack.root / "packages/core/src"), "remoteRoot": "/app/core"}
        client.send("attach", pathMappings=[mapping], justMyCode=False)
        client.until("event", "initialized")
        source = stack.root / CORE / "processing/worker.py"
        lines = source.read_text().splitlines()
        client.send("setBreakpoints", source={"path": str(source)}, breakpoints=[{"line": polled(lines)}])
        assert client.until("response", "setBreakpoints")["body"]["breakpoints"][0]["verified"]
        client.send("configurationDone")
        stopped = client.until("event", "stopped")
        assert stopped["body"]["reason"] == "breakpoint"
        client.send("disconnect", terminateDebuggee=False)
        client.until("response", "disconnect")
        client.close()
        port = access.port
    assert stack.identity() == before
    wait_for(lambda: stack.inside("rpa", "health", "--scope", "live") is not None, "the worker's life")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert "debugpy" not in (stack.inside("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '") or "debugpy")


@pytest.mark.requirement("R4.6")
def test_a_debugger_that_is_waited_for(stack: Stack) -> None:
    """The worker begins when it is attached, so that its first lines can be stopped at."""
    orchestrator = DevelopmentOrchestrator(stack.root, project=stack.name)
    with orchestrator.provide_debugging_access("rpa2", port=0, wait=True) as access:
        assert stack.inside("rpa", "health", "--scope", "live") is None
        client = Client(access.port)
        client.send("initialize", clientID="test", adapterID="debugpy")
        client.send("attach", justMyCode=False)
        client.until("event", "initialized")
        client.send("configurationDone")
        client.until("response", "attach")
        wait_for(lambda: stack.inside("rpa", "health", "--scope", "live") is not None, "the worker's life")
        client.close()


def polled(lines: list[str]) -> int:
    """The number of a line that an idle worker comes by again and again."""
    return next(number for number, line in enumerate(lines, 1) if "claim = self._claim()" in line)


@pytest.mark.requirement("R4.8")
def test_members_are_found_by_label(stack: Stack) -> None:
    """By Compose's project and service, and by the image that the image itself names; with an init before it, too."""
    (member,) = DockerEngine(stack.name).members()
    assert (member.name, member.service, member.image) == (stack.worker, "rpa2", "rpa-flow2")
    assert (member.environment, member.supervised, member.running) == ("development", True, True)
    assert DockerEngine(f"{stack.name}-other").members() == []
