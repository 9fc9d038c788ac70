"""Somebody who listens: answers like a Prefect server and an Alertmanager, and does nothing else.

The real ones would take the processors that are measured.
"""

from __future__ import annotations

import json
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"id": self.path.rpartition("/")[2], "state": {"type": "RUNNING", "name": "Running"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        _say(self.path)
        if self.path.endswith("/filter"):
            self._answer([])
        elif self.path.endswith("/set_state"):
            self._answer({"status": "ACCEPT", "state": {"type": "RUNNING", "name": "Running"}, "details": {}})
        else:
            self._answer({"id": str(uuid.uuid4()), "name": "noop"}, 201)

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(204)
        self.end_headers()

    def _answer(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


def main() -> None:
    """Listen on a free port of loopback; say which, and then where each POST went."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    _say(str(server.server_port))
    server.serve_forever()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
