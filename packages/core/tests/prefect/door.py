"""A stand-in in front of a real Prefect server: forwards every request, except where a fault says otherwise."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from rpa_core.waits import pause


@dataclass(slots=True, kw_only=True)
class Fault:
    """What befalls the next `times` requests that `on` picks (method, path).

    status     answered in the server's place, with `headers` and `body`; the server does not hear of the request
    cut        the server gets the request and answers, the answer is thrown away and the connection cut
    late_s     the server gets the request at once, the answer goes out so much later
    `struck` counts: a fault that never struck proves nothing.
    """

    times: int
    on: Callable[[str, str], bool] = lambda method, path: True
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    cut: bool = False
    late_s: float = 0.0
    struck: int = 0


class Door:
    """Listens on a port of its own on loopback while it is entered."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[str, str]] = []
        self._server_port = port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def plan(self, fault: Fault) -> Fault:
        """Add a fault; the first one that fits a request and is not used up strikes."""
        with self._lock:
            self._faults.append(fault)
        return fault

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/api"

    def __enter__(self) -> Self:
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

            def do_any(self) -> None:
                door._serve(self)

            do_GET = do_POST = do_PATCH = do_any  # noqa: N815 - the names that http.server looks for

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()

    def _strike(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            for fault in self._faults:
                if fault.struck < fault.times and fault.on(method, path):
                    fault.struck += 1
                    return fault
        return None

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self._strike(request.command, request.path.removeprefix("/api"))
        if fault is not None and fault.status:
            _answer(request, fault.status, fault.headers, json.dumps(fault.body).encode())
            return
        status, answer = self._forward(request, body)
        if fault is not None and fault.cut:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault is not None and fault.late_s:
            pause(self._stop, fault.late_s)
        try:
            _answer(request, status, {}, answer)
        except OSError:
            request.close_connection = True  # nobody waited so long

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=30)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
            connection.request(request.command, request.path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 502, b""
        finally:
            connection.close()


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Type": "application/json"}.items():
        request.send_header(name, value)
    if status != 204:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if status != 204:
        request.wfile.write(body)
