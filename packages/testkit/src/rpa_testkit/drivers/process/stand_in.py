"""`python -m rpa_testkit.drivers.process.stand_in PORT PATH`: a dependency that answers 200 on its health path."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rpa_testkit.ports import HOST


def main(arguments: list[str]) -> int:
    """Serve until killed."""
    port, path = int(arguments[0]), arguments[1]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"true"
            self.send_response(200 if self.path == path else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    ThreadingHTTPServer((HOST, port), Answer).serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
