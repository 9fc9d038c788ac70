"""The worker processes: started, killed while they hold records, started again as a restart policy would."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from rpa_core.errors import RpaError
from rpa_testkit.interrupts import uninterrupted

FLOWS = ("rpa1", "rpa2", "rpa3")
_TAIL_LINES = 20


class Fleet:
    """Processes by name, such as `rpa2-1`; every one is ended by `close`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        by_flow: Mapping[str, Mapping[str, str]],
        logs: Path,
        *,
        per_flow: int,
        seed: int,
    ) -> None:
        self._by_flow = by_flow
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("CONTAINER_")} | dict(environ)
        self._logs = logs
        self._rand = random.Random(seed)  # noqa: S311 - which worker to kill, nothing secret
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = [f"{flow}-{number}" for flow in FLOWS for number in range(1, per_flow + 1)]
        self.kills: list[str] = []

    def start(self) -> None:
        """Start whatever does not run; raises RpaError if a worker ended by itself."""
        for name in self._names:
            process = self._processes.get(name)
            code = -signal.SIGKILL if process is None else process.poll()
            if code is None:
                continue
            if code != -signal.SIGKILL:
                raise RpaError(f"{name} ended by itself with {code}; its last lines:\n{self._tail(name)}")
            with uninterrupted():
                self._processes[name] = self._spawn(name)

    def kill_a_busy_one(self, connection: psycopg.Connection[Any]) -> bool:
        """SIGKILL a worker that holds records right now; False if none of ours does."""
        busy = [
            name
            for (owner,) in connection.execute("SELECT DISTINCT owner FROM rpa.chunk WHERE state = 'l' ORDER BY owner")
            if (name := owner.split(":")[0]) in self._processes and self._processes[name].poll() is None
        ]
        if not busy:
            return False
        name = self._rand.choice(busy)
        process = self._processes[name]
        process.kill()
        process.wait()
        self.kills.append(name)
        return True

    def stop(self, timeout_s: float) -> dict[str, int]:
        """SIGTERM to all; returns the exit codes."""
        for process in self._processes.values():
            process.terminate()
        return {name: process.wait(timeout_s) for name, process in self._processes.items()}

    def close(self) -> None:
        """End whatever still runs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _tail(self, name: str) -> str:
        return "\n".join((self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        flow = name.split("-")[0]
        command = [sys.executable, "-m", "rpa_core.cli.main", "run", flow]
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env={**self._environ, **self._by_flow.get(flow, {}), "CONTAINER_WORKER_ID": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
