"""A real Prefect server of one's own, on SQLite in a folder, for those who have the package `prefect` installed.

It listens on loopback alone and tells nobody about itself. It takes some ten seconds to start, on one processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from rpa_testkit.ports import HOST, free_port
from rpa_testkit.waits import WaitTimeoutError, until

_START_S = 120.0  # the first start makes the database, revision by revision
_ASK_S = 5.0
_PROGRAM = ("prefect", "server", "start", "--analytics-off", "--no-ui")


class PrefectServerError(RuntimeError):
    """The server cannot be started; the message says why, a note carries its log."""


def unavailable() -> str:
    """Why no server can be started here; empty if one can."""
    return "" if find_spec("prefect") else "prefect is not installed here; the session `prefect` of nox installs it"


class PrefectServer:
    """One server: new -> running <-> stopped -> closed; closing removes its data unless `directory` is given.

    The port and the data stay the same from start to start. It dies with the process that started it.
    `settings` are further PREFECT_* variables of the server.
    """

    host = HOST

    def __init__(
        self, directory: Path | None = None, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._keep = directory is not None
        self._home = directory
        self._port = port
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, unless it runs; returns when it answers. PrefectServerError, with its log, if it does not."""
        reason = unavailable()
        if reason:
            raise PrefectServerError(reason)
        if self.running:
            return self
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="rpa-prefect-"))
        self._home.mkdir(parents=True, exist_ok=True)
        if self._port is None:
            self._port = free_port()
        tethered = ["-m", "rpa_testkit.tethered", "" if self._keep else str(self._home)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *tethered, *_PROGRAM, "--host", HOST, "--port", str(self._port)],
                env=self._environment(),
                cwd=self._home,  # Prefect reads prefect.toml and .env of the folder it is started in
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the tester's terminal is not for the server
            )
        try:
            until(self._answers, _START_S, f"Prefect's server to answer on port {self._port}", every_s=0.1)
        except (PrefectServerError, WaitTimeoutError) as error:
            error.add_note(self.log_text()[-8000:])
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, and wait for the end; after `timeout_s` it is killed."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL: a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again, on the same port and the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        if self._home is not None and not self._keep:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process."""
        if self._process is None:
            raise PrefectServerError("the server does not run")
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Its data and its log."""
        return self._log.parent

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; 0 before the first start."""
        return self._port or 0

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL and CONTAINER_PREFECT_API_URL are set to."""
        return f"http://{HOST}:{self.port}/api"

    def log_text(self) -> str:
        """Everything the server has written, over all its starts."""
        return self._log.read_text(errors="replace") if self._home is not None and self._log.exists() else ""

    @property
    def _log(self) -> Path:
        if self._home is None:
            raise PrefectServerError("the server was never started")
        return self._home / "server.log"

    def _environment(self) -> dict[str, str]:
        # No setting of the developer reaches the server; the mark of a run does, as all else that is inherited.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CONTAINER_"))}
        return {
            **kept,
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "PREFECT_HOME": str(self._home),
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **self._settings,
        }

    def _answers(self) -> bool:
        if not self.running:
            code = self._process.returncode if self._process is not None else None
            raise PrefectServerError(f"Prefect's server ended with {code} before it answered")
        try:
            with urllib.request.urlopen(f"{self.api_url}/health", timeout=_ASK_S) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False
