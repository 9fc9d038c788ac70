"""Real HTTP servers that alerts are sent to: one that answers, one that never does, and an address without one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """One request that came in whole."""

    path: str
    headers: dict[str, str]
    content: Any


class Receiver:
    """Keeps what is posted, and answers with `status` and `words`."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.words = ""
        self.posted: list[Posted] = []
        keep = self

        class Handler(BaseHTTPRequestHandler):
            """POST only."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                keep.posted.append(Posted(self.path, headers, json.loads(body)))
                self.send_response(keep.status)
                self.end_headers()
                self.wfile.write(keep.words.encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that was posted as Alertmanager gets them."""
        return [alert for each in self.posted if each.path.endswith("/api/v2/alerts") for alert in each.content]

    def close(self) -> None:
        """End it; the port is free then."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Hanging:
    """Takes connections and says nothing, or, with `drip`, one byte of an endless header after the other."""

    def __init__(self, *, drip: bool = False) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._drip = drip
        self._end = threading.Event()
        self._taken: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._server.accept()
            except OSError:
                return
            self._taken.append(taken)
            if self._drip:
                threading.Thread(target=self._trickle, args=(taken,), daemon=True).start()

    def _trickle(self, taken: socket.socket) -> None:
        with contextlib.suppress(OSError):
            taken.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            while not self._end.wait(0.05):
                taken.sendall(b"x")

    def close(self) -> None:
        """End it."""
        self._end.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        for taken in self._taken:
            taken.close()


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port on which nobody listens, kept from others meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
