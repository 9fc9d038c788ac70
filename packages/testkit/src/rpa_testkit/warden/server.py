"""The warden's sessions: who is there, which runs are whose, and what follows when somebody is there no more."""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from rpa_testkit.warden.leases import Leases, Log
from rpa_testkit.warden.reaper import Patience, reap
from rpa_testkit.warden.undo import from_json

_NEVER_JOINED_S = 10.0
_AFTER_DEATH = Patience(quiet_s=2.5, guardian_s=6.0, limit_s=60.0)
_IN_LIFE = Patience(quiet_s=0.15, guardian_s=2.0, limit_s=15.0)


class Server:
    """Serves until the last session has ended."""

    def __init__(self, listener: socket.socket, log: Log) -> None:
        self._listener = listener
        self._log = log
        self._leases = Leases(log)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sessions: dict[int, socket.socket] = {}
        self._runs: dict[str, int] = {}
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> None:
        """Accept sessions; returns when none is left, or none came at all."""
        joined = False
        while True:
            ready, _, _ = select.select([self._listener, self._woken], [], [], None if joined else _NEVER_JOINED_S)
            if self._listener in ready:
                connection, _ = self._listener.accept()
                number, joined = next(self._numbers), True
                with self._lock:
                    self._sessions[number] = connection
                threading.Thread(target=self._session, args=(number, connection), daemon=True).start()
                continue
            if self._woken in ready:
                self._woken.recv(1)
            with self._lock:
                if not self._sessions:
                    return

    def stop(self) -> None:
        """End all sessions as if their testers had died. Safe in a signal handler's thread."""
        for connection in tuple(self._sessions.values()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def _session(self, number: int, connection: socket.socket) -> None:
        try:
            for request in _requests(connection):
                try:
                    answer = self._do(number, request)
                except Exception as error:  # noqa: BLE001 - a request that makes no sense is answered, not died of
                    answer = {"error": f"{type(error).__name__}: {error}"}
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            self._log(f"session {number}: {error}")
        finally:
            try:
                self._end(number)
            finally:
                with self._lock:
                    del self._sessions[number]
                connection.close()
                self._wake.send(b".")

    def _do(self, number: int, request: Mapping[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "hello":
                return {"pid": os.getpid()}
            case "adopt":
                self._adopt(number, request["run_id"])
                return {}
            case "finish":
                return {"found": self._finish(number, request["run_id"])}
            case "lease":
                self._own(number, request["run_id"])
                undo = tuple(from_json(each) for each in request["undo"])
                return {"lease": self._leases.add(number, request["run_id"], undo, float(request["expires_s"]))}
            case "release":
                wanted = request["lease"]
                return {"stood": bool(self._leases.take(lambda lease: lease.id == wanted and lease.session == number))}
            case other:
                raise ValueError(f"unknown request {other!r}")

    def _adopt(self, number: int, run_id: str) -> None:
        if not run_id:
            raise ValueError("a run needs an id")
        with self._lock:
            if self._runs.setdefault(run_id, number) != number:
                raise ValueError(f"run {run_id} belongs to another session")

    def _own(self, number: int, run_id: str) -> None:
        with self._lock:
            if self._runs.get(run_id) != number:
                raise ValueError(f"adopt run {run_id} first")

    def _finish(self, number: int, run_id: str) -> list[str]:
        self._own(number, run_id)
        standing = self._leases.take(lambda lease: lease.session == number and lease.run_id == run_id)
        found = self._leases.undo(standing, "the run is over")
        found += reap([run_id], _IN_LIFE)
        with self._lock:
            del self._runs[run_id]
        self._log(f"run {run_id} is over; found {found}")
        return found

    def _end(self, number: int) -> None:
        with self._lock:
            runs = [run_id for run_id, session in self._runs.items() if session == number]
        if not runs:
            return
        self._log(f"session {number} has ended and leaves {runs}")
        self._leases.undo(self._leases.take(lambda lease: lease.session == number), "its session has ended")
        found = reap(runs, _AFTER_DEATH)
        with self._lock:
            for run_id in runs:
                del self._runs[run_id]
        self._log(f"session {number}: removed {found}")


def _requests(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Until the connection ends or its process does: a child may have inherited the connection."""
    process = _peer(connection)
    try:
        watched: list[Any] = [connection] if process is None else [connection, process]
        rest = b""
        while True:
            ready, _, _ = select.select(watched, [], [])
            if connection not in ready:
                return
            data = connection.recv(65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)
    finally:
        if process is not None:
            os.close(process)


def _peer(connection: socket.socket) -> int | None:
    """A descriptor that becomes readable when the process at the other end has ended."""
    if sys.platform != "linux":
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    try:
        return os.pidfd_open(pid)
    except OSError:  # ended already, or an old kernel: its connection tells
        return None
