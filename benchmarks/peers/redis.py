"""A Redis of the benchmark's own: on loopback, at a free port, as durable as the PostgreSQL beside it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rpa_testkit.processes import WorkerProcess
from rpa_testkit.waits import until

PROGRAM = "redis-server"
_START_S = 10.0


def version() -> str:
    """Such as `redis-server 7.0.15`."""
    said = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout
    return f"{PROGRAM} {said.partition('v=')[2].split()[0]}"


@contextmanager
def server(folder: Path, *, fsync: str, template: Path | None = None) -> Iterator[int]:
    """A server with its data in `folder`, a copy of `template` if given; yields its port.

    `fsync` is Redis' appendfsync: `always` writes the log to disk before a command is answered, as PostgreSQL does
    with a commit. At the end the server writes everything to disk and stops.
    """
    if template is not None:
        shutil.copytree(template, folder)
    folder.mkdir(exist_ok=True)
    port = _free_port()
    durable = ["--appendonly", "yes", "--appendfsync", fsync, "--save", "", "--maxmemory-policy", "noeviction"]
    place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--daemonize", "no"]
    process = WorkerProcess([PROGRAM, *place, *durable], env={}, log=folder / "redis.log")
    try:
        until(lambda: _answers(port, process), _START_S, f"{PROGRAM} to answer", process.log_text)
        yield port
        process.terminate()
        process.wait(_START_S)
    finally:
        process.reap()


def client(port: int) -> Any:
    """A client with one connection."""
    import redis

    return redis.Redis(host="127.0.0.1", port=port, single_connection_client=True)


def _answers(port: int, process: WorkerProcess) -> bool:
    import redis

    if not process.running:
        raise RuntimeError(f"{PROGRAM} ended:\n{process.log_text()}")
    try:
        with client(port) as connection:
            return bool(connection.ping())
    except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
