"""The tester's side of a proxy."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from rpa_testkit.proxy.probe import Line, probe
from rpa_testkit.proxy.requests import HttpRule, HttpStats
from rpa_testkit.proxy.rules import EdgeInfo, EdgeStats, ProbeResult, ProxyError, Rule, Speaks
from rpa_testkit.proxy.trap import Sprung, Trap

__all__ = [
    "EdgeInfo",
    "EdgeStats",
    "HttpRule",
    "HttpStats",
    "Line",
    "ProbeResult",
    "Proxy",
    "ProxyError",
    "Rule",
    "Sprung",
    "Trap",
]

_START_S = 30.0
_ANSWER_S = 30.0
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to recognise an edge that listens everywhere


class Proxy:
    """A proxy, by its control channel at `host`:`port`. May be used from several threads."""

    def __init__(self, host: str, port: int, process: subprocess.Popen[bytes] | None = None) -> None:
        """Use `spawn` or `connect`."""
        self.host = host
        self.port = port
        self._process = process
        self._lock = threading.Lock()
        self._edges: dict[str, EdgeInfo] = {}
        try:
            self._socket = socket.create_connection((host, port), _ANSWER_S)
        except OSError as error:
            raise ProxyError(f"no proxy answers at {host}:{port}: {error}") from error
        self._lines = self._socket.makefile("rb")

    @classmethod
    def spawn(cls, *, seed: int, env: Mapping[str, str]) -> Self:
        """Start one on this machine; `env` is its whole environment. It ends with `close`, or with this process."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rpa_testkit.proxy", "--control", "127.0.0.1:0", "--seed", str(seed), "--owned"],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the tester's terminal is not for the proxy
        )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            _end(process)
            raise ProxyError(f"the proxy did not start: exit code {process.returncode}, nothing said in {_START_S:g} s")
        try:
            return cls(**json.loads(line), process=process)
        except BaseException:
            _end(process)
            raise

    @classmethod
    def connect(cls, host: str, port: int) -> Self:
        """Use one that runs already; ProxyError if none answers."""
        return cls(host, port)

    @property
    def pid(self) -> int | None:
        """The process, if this object started it."""
        return None if self._process is None else self._process.pid

    def open_edge(
        self,
        name: str,
        upstream: tuple[str, int],
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        protocol: Speaks = "postgres",
    ) -> int:
        """Listen for `name`; the port, which never changes. `protocol` tells how `probe` asks the upstream."""
        info = self._ask("open_edge", edge=name, upstream=upstream, listen=listen, protocol=protocol)
        self._edges[name] = EdgeInfo.from_json(info)
        return self._edges[name].port

    def edges(self) -> Mapping[str, EdgeInfo]:
        """All edges by name."""
        infos = map(EdgeInfo.from_json, self._ask("edges")["edges"])
        self._edges = {info.name: info for info in infos}
        return dict(self._edges)

    def set_rule(self, edge: str, rule: Rule) -> None:
        """In place of the one before; holds for standing connections and new ones when this returns."""
        self._ask("set_rule", edge=edge, rule=rule.to_json())

    def clear(self, edge: str) -> None:
        """Let everything through; what was held is delivered, half-open connections are reset."""
        self._ask("clear", edge=edge)

    def reset(self, edge: str) -> None:
        """RST to both sides of every connection made before; so do the next two mean it."""
        self._ask("reset", edge=edge)

    def half_open(self, edge: str) -> None:
        """RST to the server's side of every connection; the client's side stays open and silent until `clear`."""
        self._ask("half_open", edge=edge)

    def cut_late(self, edge: str, delay_s: float) -> int:
        """RST to the client's side of every connection; what it had sent, so many bytes, comes `delay_s` later."""
        held: int = self._ask("cut_late", edge=edge, delay_s=delay_s)["held_bytes"]
        return held

    def set_http(self, edge: str, rule: HttpRule) -> None:
        """For requests that come from now on, until the edge is cleared; ProxyError for an edge without HTTP."""
        self._ask("set_http", edge=edge, rule=rule.to_json())

    def http_stats(self, edge: str) -> HttpStats:
        """What became of the edge's requests."""
        return HttpStats(**self._ask("http_stats", edge=edge))

    def set_trap(self, edge: str, trap: Trap) -> None:
        """In place of the one before; it waits until it is sprung or the edge is cleared."""
        self._ask("set_trap", edge=edge, trap=trap.to_json())

    def trap(self, edge: str) -> Sprung:
        """What became of the trap that was set last."""
        return Sprung(**self._ask("trap", edge=edge))

    def stats(self, edge: str) -> EdgeStats:
        """The edge now."""
        return EdgeStats(**self._ask("stats", edge=edge))

    def probe(self, edge: str, timeout_s: float, *, padding_bytes: int = 0) -> ProbeResult:
        """Connect through the edge, ask for a sign of life, measure the round trip; `padding_bytes` up to 7,000."""
        return probe(self.address(edge), self._info(edge).protocol, timeout_s, padding_bytes)

    def dial(self, edge: str, timeout_s: float) -> Line:
        """A connection through the edge to be kept while something happens to it. OSError if none can be made."""
        return Line(self.address(edge), self._info(edge).protocol, timeout_s)

    def address(self, edge: str) -> tuple[str, int]:
        """Where the tester reaches the edge: where the proxy itself is reached, if the edge listens everywhere."""
        info = self._info(edge)
        return (self.host if info.host in _ANYWHERE else info.host), info.port

    def close(self) -> None:
        """End the connection, and the process if this object started it."""
        for closing in (self._lines, self._socket):
            with suppress(OSError):
                closing.close()
        if self._process is not None:
            _end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _info(self, edge: str) -> EdgeInfo:
        if edge not in self._edges and edge not in self.edges():
            raise ProxyError(f"no edge {edge!r}; there are {', '.join(self._edges) or 'none'}")
        return self._edges[edge]

    def _ask(self, op: str, **given: Any) -> dict[str, Any]:
        with self._lock:
            try:
                self._socket.sendall(json.dumps({"op": op, **given}).encode() + b"\n")
                line = self._lines.readline()
            except (OSError, ValueError) as error:
                raise ProxyError(f"{op}: the proxy at {self.host}:{self.port} does not answer: {error}") from error
        if not line:
            raise ProxyError(f"{op}: the proxy at {self.host}:{self.port} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ProxyError(f"{op}: {answer['error']}")
        return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5.0)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
