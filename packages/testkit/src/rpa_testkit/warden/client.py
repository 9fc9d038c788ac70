"""The tester's side of the warden."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from rpa_testkit.warden.mark import VARIABLE
from rpa_testkit.warden.undo import Undo, to_json

_START_S = 30.0
_ACK_S = 20.0
_REAP_S = 60.0


class WardenError(RuntimeError):
    """The warden is gone, or refuses; the text says which."""


class Warden:
    """One session with a warden. May be used from several threads. What it still guards goes when it ends."""

    def __init__(self, address: str) -> None:
        """Use `start` or `join`."""
        self.address = address
        self._owner = False
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(address)
            self._lines = self._socket.makefile("rb")
            self.pid: int = self._ask("hello", _ACK_S)["pid"]
        except (OSError, WardenError) as error:
            self._socket.close()
            raise WardenError(f"no warden answers at {address}: {error}") from error

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start one whose log is in `folder`, and own it. It outlives this process for as long as there is work."""
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "rpa_testkit.warden", str(folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_START_S,
                check=True,
                start_new_session=True,  # neither Ctrl-C nor the end of the tester's terminal reaches it
            )
        except subprocess.SubprocessError as error:
            raise WardenError(f"the warden did not start: {error}\n{getattr(error, 'stderr', '')}") from error
        warden = cls(json.loads(done.stdout)["address"])
        warden._owner = True
        return warden

    @classmethod
    def join(cls, address: str) -> Self:
        """A session of this process with one that another process has started; WardenError if it has ended."""
        return cls(address)

    def adopt(self, run_id: str) -> None:
        """From now on, whatever carries this run's mark is removed when this session ends."""
        self._ask("adopt", _ACK_S, run_id=run_id)

    def finish(self, run_id: str) -> Sequence[str]:
        """The run is over: undo and remove what is left of it now; what was found, in words."""
        found: list[str] = self._ask("finish", _REAP_S, run_id=run_id)["found"]
        return found

    def lease(self, undo: Sequence[Undo], expires_s: float, *, run_id: str) -> str:
        """Have `undo` carried out in `expires_s` seconds, or when this session ends; the lease, once it is known."""
        lease: str = self._ask(
            "lease", _ACK_S, run_id=run_id, undo=[to_json(each) for each in undo], expires_s=expires_s
        )["lease"]
        return lease

    def release(self, lease: str) -> bool:
        """It has been undone by others. False if it stood no more: it had run out and the warden undid it."""
        stood: bool = self._ask("release", _ACK_S, lease=lease)["stood"]
        return stood

    def close(self) -> None:
        """End the session; for the one who started the warden: wait until all is removed that it still guarded."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        if self._owner:
            with suppress(OSError):
                self._socket.settimeout(_REAP_S)
                self._lines.read()  # ends when the warden has closed the session
            self._owner = False
        with suppress(OSError):
            self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, op: str, timeout_s: float, **given: Any) -> dict[str, Any]:
        with self._lock:
            try:
                self._socket.settimeout(timeout_s)
                self._socket.sendall(json.dumps({"op": op, **given}).encode() + b"\n")
                line = self._lines.readline()
            except (OSError, ValueError) as error:
                raise WardenError(f"{op}: the warden at {self.address} does not answer: {error}") from error
        if not line:
            raise WardenError(f"{op}: the warden at {self.address} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WardenError(f"{op}: {answer['error']}")
        return answer
