"""docker/base/rpa-reload as a real process, with a fake `rpa` that runs whatever stands in a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ci.waits import until
from ci.workspace import ROOT

PROGRAM = ROOT / "docker/base/rpa-reload"
pytestmark = [pytest.mark.requirement("R4.5"), pytest.mark.skipif(sys.platform != "linux", reason="runs in containers")]

# A worker: answers /health/live with its version, drains on SIGTERM, writes down what happens to it.
WORKER = """
import http.server, os, signal, sys, threading

VERSION = 1

def note(word):
    with open(os.environ["NOTES"], "a") as file:
        print(word, VERSION, os.getpid(), *sys.argv[1:], file=file)

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(VERSION).encode())
    def log_message(self, *_):
        pass

stop = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda n, _: (note(signal.Signals(n).name), n == signal.SIGUSR1 or stop.set()))
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["CONTAINER_HEALTH_PORT"])), Health)
note("started")
threading.Thread(target=server.serve_forever, daemon=True).start()
stop.wait()
server.server_close()
note("drained")
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Box:
    """A supervisor and what stands around it."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app.py"
        self.app.write_text(WORKER)
        self.notes_path = folder / "notes"
        self.notes_path.touch()
        self._stderr = folder / "stderr"
        self.program = PROGRAM
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        self.rpa = bin_folder / "rpa"
        run = "runpy.run_path(os.environ['APP'], run_name='__main__')"
        self.rpa.write_text(f"#!{sys.executable}\nimport os, runpy\n{run}\n")
        self.rpa.chmod(0o755)
        self.environ = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "APP": str(self.app),
            "NOTES": str(self.notes_path),
            "CONTAINER_HEALTH_PORT": str(free_port()),
            "CONTAINER_SHUTDOWN_TIMEOUT": "20s",
            "RPA_RELOAD_STATE": str(folder / "state.json"),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.before: Callable[[], object] | None = None  # in the new process, before the program

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [sys.executable, self.program, *(arguments or ("run",))]
        variables = {**self.environ, **(environ or {})}
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(command, env=variables, stderr=stderr, preexec_fn=self.before)
        return self.process

    def control(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, PROGRAM, *arguments], env=self.environ, capture_output=True, text=True, timeout=60
        )
        return {"exit": done.returncode, **(json.loads(done.stdout) or {})}

    def save(self, old: str, new: str) -> None:
        self.app.write_text(self.app.read_text().replace(old, new))

    def notes(self, word: str) -> list[list[str]]:
        return [line.split() for line in self.notes_path.read_text().splitlines() if line.startswith(word)]

    def said(self) -> str:
        return self._stderr.read_text()

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        return until(condition, timeout_s=30, what=what, every_s=0.02)

    def started(self, times: int) -> None:
        self.wait_for(lambda: len(self.notes("started")) >= times, f"start number {times}")

    def processes(self) -> list[int]:
        """Whatever was started with this box's environment, at however many removes."""
        mark = f"NOTES={self.notes_path}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Nothing of it outlives the test."""
    found = Box(tmp_path)
    yield found
    for pid in found.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if found.process is not None:
        found.process.wait()


def stat(pid: int, field: int) -> str:
    """A field of /proc/PID/stat, counted from the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field]


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`, ended ones included."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and stat(int(path.name), 1) == str(pid):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_sighup_drains_the_child_and_starts_the_saved_code(box: Box) -> None:
    """The supervisor stays; the arguments are passed on; the remote control says when the new code answers."""
    process = box.start("run", "--migrate")
    box.started(1)
    box.save("VERSION = 1", "VERSION = 2")
    result = box.control("--reload")
    assert result["live"] is True
    assert result["exit"] == 0
    assert box.notes("drained")[0][:2] == ["drained", "1"]
    (_, first, old, *_), (_, second, new, *arguments) = box.notes("started")
    assert (first, second, arguments) == ("1", "2", ["run", "--migrate"])
    assert old != new
    assert result["child"] == int(new)
    assert process.poll() is None
    assert children(process.pid) == [int(new)]
    assert box.end() == 0


def test_a_storm_of_signals_is_a_few_restarts(box: Box) -> None:
    """Those that arrive before the child has started again are satisfied by that start."""
    process = box.start()
    box.started(1)
    box.save("stop.wait()\n", "stop.wait()\nthreading.Event().wait(0.5)\n")
    box.control("--reload")  # from here on a drain takes half a second
    for _ in range(200):
        process.send_signal(signal.SIGHUP)
    box.save("VERSION = 1", "VERSION = 2")
    assert box.control("--reload")["live"]
    assert 3 <= len(box.notes("started")) <= 10
    assert box.notes("started")[-1][1] == "2"
    assert len(box.notes("SIGTERM")) < len(box.notes("started"))  # one each, never a second
    assert len(children(process.pid)) == 1


def test_a_syntax_error_is_survived_and_the_next_save_heals(box: Box) -> None:
    """It is said on stderr; nothing is left over and nothing is tried again before the next signal."""
    process = box.start()
    box.started(1)
    box.app.write_text("def broken(:\n")
    result = box.control("--reload")
    assert (result["live"], result["code"], result["exit"]) == (False, 1, 1)
    assert "SyntaxError" in box.said()
    assert "waiting for the next save" in box.said()
    assert process.poll() is None
    assert children(process.pid) == []
    used = sum(int(stat(process.pid, field)) for field in (11, 12))  # processor ticks
    box.app.write_text(WORKER.replace("VERSION = 1", "VERSION = 3"))
    assert box.control("--status")["state"] == "waiting"
    assert sum(int(stat(process.pid, field)) for field in (11, 12)) - used <= 2
    assert box.control("--reload")["live"] is True
    assert box.notes("started")[-1][1] == "3"


def test_a_child_that_never_ran_ends_the_supervisor(box: Box) -> None:
    """Without a reload, restart policies have the word: exit with the child's code."""
    box.app.write_text("raise SystemExit(77)\n")
    assert box.start().wait(30) == 77


def test_a_crash_long_after_a_reload_ends_the_supervisor(box: Box, tmp_path: Path) -> None:
    """Only what fails within a minute is blamed on what was saved."""
    box.program = tmp_path / "rpa-reload"
    box.program.write_text(PROGRAM.read_text().replace("SETTLED_S = 60.0", "SETTLED_S = 0.0"))
    process = box.start()
    box.started(1)
    assert box.control("--reload")["live"]
    os.kill(int(box.notes("started")[-1][2]), signal.SIGKILL)
    assert process.wait(30) == 128 + signal.SIGKILL


def test_a_killed_child_without_reload_ends_the_supervisor(box: Box) -> None:
    """128 + the signal, as shells and Docker count."""
    process = box.start()
    box.started(1)
    os.kill(int(box.notes("started")[0][2]), signal.SIGSEGV)
    assert process.wait(30) == 128 + signal.SIGSEGV


@pytest.mark.requirement("R5.5")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_end_is_passed_on_and_drained(box: Box, number: signal.Signals) -> None:
    """The child hears the signal once and is waited for."""
    process = box.start()
    box.started(1)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert len(box.notes(number.name)) == 1
    assert len(box.notes("drained")) == 1


@pytest.mark.requirement("R5.5")
def test_signals_that_were_ignored_at_the_start_are_heard(box: Box) -> None:
    """Where SIGINT is ignored it still ends, and where SIGCHLD is, the child's end and its code are still seen."""
    box.before = lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGCHLD)]
    process = box.start()
    box.started(1)
    process.send_signal(signal.SIGINT)
    assert (process.wait(30), len(box.notes("drained"))) == (0, 1)
    box.save('note("started")\n', "sys.exit(7)\n")
    assert box.start().wait(30) == 7


def test_other_signals_reach_the_child(box: Box) -> None:
    """And end nothing."""
    process = box.start()
    box.started(1)
    process.send_signal(signal.SIGUSR1)
    box.wait_for(lambda: box.notes("SIGUSR1"), "the child to hear SIGUSR1")
    assert process.poll() is None


def test_the_end_during_a_reload_starts_nothing_more(box: Box) -> None:
    """The drain under way is the last one, and it is not cut short by a second signal."""
    box.save("stop.wait()\n", "stop.wait()\nthreading.Event().wait(0.7)\n")
    process = box.start()
    box.started(1)
    process.send_signal(signal.SIGHUP)
    box.wait_for(lambda: box.notes("SIGTERM"), "the drain to begin")
    process.terminate()
    assert process.wait(30) == 0
    assert (len(box.notes("SIGTERM")), len(box.notes("drained")), len(box.notes("started"))) == (1, 1, 1)


def test_a_child_that_does_not_drain_is_killed(box: Box, tmp_path: Path) -> None:
    """After CONTAINER_SHUTDOWN_TIMEOUT and a margin, and no sooner."""
    box.save("stop.wait()\n", "while True: stop.wait(); threading.Event().wait()\n")
    box.program = tmp_path / "rpa-reload"
    box.program.write_text(PROGRAM.read_text().replace("MARGIN_S = 5.0", "MARGIN_S = 0.5"))
    process = box.start(environ={"CONTAINER_SHUTDOWN_TIMEOUT": "500ms"})
    box.started(1)
    box.app.write_text(WORKER)
    began = time.monotonic()
    assert box.control("--reload")["live"] is True
    assert time.monotonic() - began >= 1.0
    assert "killing" in box.said()
    assert len(children(process.pid)) == 1


def test_nothing_that_the_old_child_left_runs_beside_the_new_one(box: Box) -> None:
    """Not even what has left its session and its parents, the way daemons do."""
    leave = (
        "import subprocess\n"
        "code = 'import os, time\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\n'\n"
        'code += \'open(os.environ["NOTES"] + ".daemon", "w").write(str(os.getpid()))\\nwhile True: time.sleep(9)\'\n'
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    box.save('note("started")', f'{leave}note("started")')
    process = box.start()
    box.started(1)
    path = Path(f"{box.notes_path}.daemon")
    daemon = int(box.wait_for(lambda: path.exists() and path.read_text(), "the daemon"))
    box.wait_for(lambda: stat(daemon, 1) == str(process.pid), "the daemon to be adopted")
    box.app.write_text(WORKER)
    assert box.control("--reload")["live"] is True
    assert not Path(f"/proc/{daemon}").exists()
    assert children(process.pid) == [int(box.notes("started")[-1][2])]


def test_the_remote_control_says_when_nobody_is_there(box: Box) -> None:
    """A state file that an ended supervisor left does not count: its number may be somebody else's by now."""
    box.start()
    box.started(1)
    box.end()
    assert Path(box.environ["RPA_RELOAD_STATE"]).exists()
    found = box.control("--status")
    assert found == {"exit": 1}


# Takes debugpy's arguments, writes them down and leaves a listener behind that has left its session, as debugpy does.
DEBUGPY = """
import os, runpy, socket, sys

open(os.environ["NOTES"] + ".debugpy", "w").write(repr(sys.argv[1:]))
host, port = sys.argv[2].split(":")
listener = socket.create_server((host, int(port)))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        listener.accept()
    os._exit(0)
listener.close()
sys.argv = [argument for argument in sys.argv[3:] if argument != "--wait-for-client"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def debugpy(box: Box, tmp_path: Path) -> Path:
    """Puts the fake where the child finds it; the file in which it writes down its arguments."""
    package = tmp_path / "site/debugpy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(DEBUGPY)
    box.environ["PYTHONPATH"] = str(package.parent)
    return Path(f"{box.notes_path}.debugpy")


def listening() -> set[str]:
    """Addresses of this machine that are listened on, as the kernel writes them."""
    return {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line}


@pytest.mark.requirement("R4.6")
def test_the_debugger_comes_and_goes_with_a_reload(box: Box, debugpy: Path) -> None:
    """Its port listens on the loopback only; a worker that stands in it neither hangs nor loses its leases."""
    port = free_port()
    box.save('note("started")', 'note("started " + os.environ.get("CONTAINER_LEASE_TTL", "-"))')
    process = box.start()
    box.started(1)
    assert box.control("--debug", str(port))["live"] is True
    assert f"0100007F:{port:04X}" in listening()
    assert box.notes("started")[-1][1] == "300"
    assert box.control("--reload")["live"] is True  # the port is free again for the next one
    assert box.notes("started")[-1][1] == "300"
    assert box.control("--no-debug")["live"] is True
    assert box.notes("started")[-1][1] == "-"
    assert len(children(process.pid)) == 1  # the listener, a daemon, has gone
    assert f"0100007F:{port:04X}" not in listening()
    assert debugpy.read_text() == repr(["--listen", f"127.0.0.1:{port}", str(box.rpa), "run"])


@pytest.mark.requirement("R4.6")
def test_stdin_and_stdout_are_joined_to_a_port(box: Box) -> None:
    """How a debugger reaches a port of the container that nobody publishes."""
    box.start()
    box.started(1)
    request = b"GET /health/live HTTP/1.0\r\n\r\n"
    with subprocess.Popen(
        [sys.executable, PROGRAM, "--connect", box.environ["CONTAINER_HEALTH_PORT"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as bridge:
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        bridge.stdin.write(request)
        bridge.stdin.flush()
        answer = bridge.stdout.read()
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b"\r\n\r\n1")
