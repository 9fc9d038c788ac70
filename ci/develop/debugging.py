"""A debugger's way into one running container: a port of this machine's loopback, joined to one of the container's.

Nothing is published and the container is not recreated: each connection is a `docker exec`, which ends with it. So the
port is there while somebody debugs and gone afterwards, and it works through a remote engine as well.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Mapping

from ci.develop.containers import SUPERVISOR, Engine, Member
from ci.errors import ToolError

_INSIDE = 5678  # in the container, on its loopback
_HOST = "127.0.0.1"


class Forwarder:
    """Listens on this machine's loopback and joins each connection to a port of a container."""

    def __init__(self, container: str, inside: int, port: int) -> None:
        self._container = container
        self._inside = inside
        try:
            self._listener = socket.create_server((_HOST, port))
        except OSError as error:
            raise ToolError(f"port {port} cannot be had ({error.strerror}); choose another one with --port") from error
        self._processes = list[subprocess.Popen[bytes]]()
        self._closed = False
        threading.Thread(target=self._accept, name="debugger-port", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Close the port and every connection."""
        self._closed = True
        with socket.socket() as knock:  # accept does not notice that its socket was closed
            knock.connect_ex((_HOST, self.port))
        self._listener.close()
        for process in self._processes:
            process.terminate()
            process.wait()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:  # the process has it; this end is not needed any more
                if self._closed:
                    return
                command = ["docker", "exec", "-i", self._container, SUPERVISOR, "--connect", str(self._inside)]
                self._processes = [one for one in self._processes if one.poll() is None]
                end = connection.fileno()
                self._processes.append(subprocess.Popen(command, stdin=end, stdout=end, stderr=subprocess.DEVNULL))


class DebugAccess:
    """A worker under the debugger until `close`; also a context manager."""

    def __init__(self, engine: Engine, member: Member, forwarder: Forwarder, instructions: str) -> None:
        self._engine = engine
        self._forwarder = forwarder
        self.member = member
        self.host = _HOST
        self.port = forwarder.port
        self.instructions = instructions

    def close(self) -> None:
        """Close the port and restart the worker without the debugger."""
        self._forwarder.close()
        self._engine.reload(self.member, "--no-debug")

    def __enter__(self) -> DebugAccess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_access(
    engine: Engine, member: Member, *, others: int, places: Mapping[str, str], port: int, wait: bool
) -> DebugAccess:
    """Restart the worker under debugpy and open the port. `places`: folder in the container -> in the workspace."""
    forwarder = Forwarder(member.id, _INSIDE, port)
    answer = engine.reload(member, "--debug", str(_INSIDE), *(["--wait"] if wait else []))
    if not answer.get("live"):
        forwarder.close()
        engine.reload(member, "--no-debug")
        raise ToolError(f"{member.name} does not start under debugpy: {answer.get('problem')}; its log says why")
    return DebugAccess(
        engine, member, forwarder, instructions(member, forwarder.port, others=others, places=places, wait=wait)
    )


def instructions(member: Member, port: int, *, others: int, places: Mapping[str, str], wait: bool) -> str:
    """How to attach."""
    configuration = {
        "name": f"rpa: {member.service}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": _HOST, "port": port},
        "pathMappings": [
            {"localRoot": f"${{workspaceFolder}}/{source}", "remoteRoot": at} for at, source in places.items()
        ],
        "justMyCode": True,
    }
    lines = [
        f"{member.name} runs under debugpy{' and waits for a debugger' if wait else ''}: attach to {_HOST}:{port}",
        "",
        "VS Code, .vscode/launch.json:",
        json.dumps(configuration, indent=2),
        "",
        f"Any other client of the Debug Adapter Protocol: attach to {_HOST}:{port}, with these path mappings:",
        *(f"  {source} -> {at}" for at, source in places.items()),
        "",
        "At a breakpoint the whole process stands; its leases hold for five minutes. A save ends the session's worker",
        "after three seconds and starts the next one under the debugger: attach again.",
    ]
    if others:
        alone = f"invoke compose.scale {member.service}=1 leaves this one"
        lines.append(f"{others} more of {member.service} take records as well: {alone}.")
    return "\n".join(lines)
