"""A receiver for rpa3: a real HTTP server on this machine that answers as it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """Takes POSTs, keeps what came, counts an effect once per Idempotency-Key, answers with `answer`."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.effects: dict[str, bytes] = {}
        self.released = threading.Event()
        self.answer: Answer = reply(200)
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5  # a client that never closes its connections must not hold up the end of a test

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.paths.append(self.path)
                receiver.took(dict(self.headers), body)
                receiver.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing on stderr."""

        self._handler = Handler
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._server = _QuietServer(("127.0.0.1", port), self._handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/responses"

    def took(self, headers: dict[str, str], body: bytes) -> None:
        """Note a request."""
        with self._lock:
            self.requests.append((headers, body))
            self.effects.setdefault(headers["Idempotency-Key"], body)

    def away(self) -> None:
        """Nobody listens any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def back(self) -> None:
        """Listen again, on the same port."""
        self._listen(self._server.server_address[1])

    def close(self) -> None:
        """Let waiting answers go and stop."""
        self.released.set()
        self.away()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status, a body, and headers written with `_` for `-`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection with a TCP reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that is closed at the end of the test."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def answers() -> dict[str, Callable[..., Answer] | Answer]:
    """The kinds of answer there are: `reply(status, body, **headers)` and `reset`."""
    return {"reply": reply, "reset": reset}
