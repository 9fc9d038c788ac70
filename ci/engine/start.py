"""Starting an engine and ending it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.engine import packages
from ci.engine.commands import last_lines
from ci.engine.decide import steps
from ci.engine.machine import dockerd, engine_version, find, look
from ci.engine.places import Places
from ci.errors import ToolError
from ci.waits import until

_ANSWERS_S = 90
_ENDS_S = 120


def start(places: Places) -> None:
    """Bring the machine to an engine that answers, with compose and buildx; says each step it takes."""
    with _alone(places, root=os.geteuid() == 0):
        seen = look(places)
        todo = steps(seen)
        if todo.install:
            print(f"apt-get install {' '.join(todo.install)}", flush=True)
            packages.install(todo.install)
        if todo.fetch:
            fetched = packages.fetch(todo.fetch, places, codename=seen.codename)
            print(f"unpacked into {places.packages}: {', '.join(fetched) or 'nothing, all there'}", flush=True)
        for name in todo.link:
            print(f"linked {_link(name, places)}", flush=True)
        if todo.start and engine_version(places) is None:  # a package's own service may have started it
            print(f"starting dockerd, data in {places.data}, log in {places.log}", flush=True)
            _launch(places)
        version = engine_version(places)
        done = "nothing to do" if not (todo.install or todo.fetch or todo.link or todo.start) else "ready"
        print(f"Docker Engine {version} answers, with compose and buildx: {done}.")


def stop(places: Places) -> bool:
    """End the engine that was started here, and its containers; False where there is none."""
    pid = running(places)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    until(lambda: running(places) is None, timeout_s=_ENDS_S, what=f"dockerd (process {pid}) to end after SIGTERM")
    places.started.unlink(missing_ok=True)
    return True


def running(places: Places) -> int | None:
    """Process id of the engine that was started here, if it still runs."""
    try:
        record = json.loads(places.started.read_text(encoding="utf-8"))
        pid, began = int(record["pid"]), str(record["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _began(pid) == began else None


def _launch(places: Places) -> None:
    program = dockerd(places)
    if program is None:
        raise ToolError(
            f"dockerd is in none of {places.packages} and PATH after installing; delete {places.prefix}, try again"
        )
    for folder in (places.data, places.run, places.links, places.log.parent, places.socket.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if tini := find("tini"):
        _replace(places.links / "docker-init", tini)  # the name by which dockerd looks for it
    command = [
        str(program),
        f"--data-root={places.data}",
        f"--exec-root={places.run / 'exec'}",
        f"--pidfile={places.run / 'docker.pid'}",
        f"--host=unix://{places.socket}",
        *places.options,
    ]
    with places.log.open("a+b") as log:
        begin = log.seek(0, os.SEEK_END)
        environment = {**os.environ, "PATH": places.path(os.environ.get("PATH", os.defpath))}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True
        )
    places.started.write_text(json.dumps({"pid": process.pid, "began": _began(process.pid)}), encoding="utf-8")
    try:
        until(
            lambda: process.poll() is not None or engine_version(places),
            timeout_s=_ANSWERS_S,
            what="an answer of the engine",
            every_s=0.3,
        )
    except TimeoutError as error:
        process.terminate()
        process.wait(_ENDS_S)
        raise _failed(places, begin, f"did not answer within {_ANSWERS_S} s") from error
    if process.returncode is not None:
        raise _failed(places, begin, f"ended with {process.returncode}")


def _failed(places: Places, begin: int, how: str) -> ToolError:
    places.started.unlink(missing_ok=True)
    with places.log.open("rb") as log:
        log.seek(begin)
        said = last_lines(log.read().decode(errors="replace"))
    return ToolError(
        f"dockerd {how}. The end of {places.log}:\n{said}\n"
        f"An engine needs a machine's rights (in a container: --privileged), iptables that the kernel knows, and "
        f"{places.data} for itself. Correct what the log names and run this again."
    )


def _link(name: str, places: Places) -> Path:
    program = places.program(name)
    if program is None:
        raise ToolError(f"{name} is not among the unpacked packages; delete {places.prefix} and run this again")
    link = (places.bin if name == "docker" else places.plugins) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    _replace(link, program)
    return link


def _replace(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: a number that is used again is another process. None: it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


@contextmanager
def _alone(places: Places, *, root: bool) -> Iterator[None]:
    """Two that start at once: the second waits, and finds everything done. Others than root only look."""
    if not root:
        yield
        return
    places.run.mkdir(parents=True, exist_ok=True)
    with (places.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
