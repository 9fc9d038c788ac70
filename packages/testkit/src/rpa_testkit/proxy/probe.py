"""Asks whatever is behind an edge for a sign of life.

PostgreSQL answers an SSLRequest with one byte, before it knows who asks and even when all its slots are filled. Padding
makes the request long, to measure bandwidth: then it is a startup packet, and the server answers it or refuses it.
An HTTP server answers any request.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rpa_testkit.proxy.rules import Answer, ProbeResult, Speaks

MOST_PADDING = 7_000
"""Bytes: PostgreSQL takes startup packets up to 10,000, most HTTP servers headers up to 8,000."""

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_VERSION_3 = 196608


class Line:
    """A connection through an edge, held open by the tester."""

    def __init__(self, address: tuple[str, int], protocol: Speaks, timeout_s: float) -> None:
        """OSError if it cannot be made in time."""
        self._speaks = protocol
        self._socket = socket.create_connection(address, timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, timeout_s: float, padding_bytes: int = 0) -> ProbeResult:
        """Send a request and wait for the first byte of the answer; once for each connection."""
        request = self._request(padding_bytes)
        began = time.monotonic()
        return ProbeResult(outcome=self._outcome(request, began + timeout_s), rtt_s=time.monotonic() - began)

    def end(self) -> None:
        """Close in order, so that the server has nothing to complain of."""
        with suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(65536):
                pass
        self._socket.close()

    def cut(self) -> None:
        """Close with an RST: whatever is on its way is not wanted any more."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def _outcome(self, request: bytes, deadline: float) -> Answer:
        try:
            self._wait_until(deadline)
            self._socket.sendall(request)
            self._wait_until(deadline)
            answer = self._socket.recv(1)
        except TimeoutError:
            return "silent"
        except OSError:
            return "refused"
        return "answered" if answer else "closed"

    def _wait_until(self, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))

    def _request(self, padding_bytes: int) -> bytes:
        if self._speaks == "http":
            padding = f"X-Padding: {'.' * padding_bytes}\r\n" if padding_bytes else ""
            return f"GET / HTTP/1.1\r\nHost: probe\r\nAccept: */*\r\n{padding}\r\n".encode()
        if padding_bytes:
            # Options of spaces are no options: the session is like any other, if the server lets it in at all.
            fields = (b"user", b"postgres", b"database", b"postgres", b"options", b" " * padding_bytes, b"")
            body = struct.pack("!i", _VERSION_3) + b"\0".join(fields) + b"\0"
            return struct.pack("!i", len(body) + 4) + body
        return _SSL_REQUEST


def probe(address: tuple[str, int], protocol: Speaks, timeout_s: float, padding_bytes: int = 0) -> ProbeResult:
    """Connect, ask once and go; never raises for what the network does."""
    if not 0 <= padding_bytes <= MOST_PADDING:
        raise ValueError(f"padding is 0 to {MOST_PADDING} bytes, not {padding_bytes}")
    began = time.monotonic()
    try:
        line = Line(address, protocol, timeout_s)
    except TimeoutError:
        return ProbeResult(outcome="silent", rtt_s=time.monotonic() - began)
    except OSError:
        return ProbeResult(outcome="refused", rtt_s=time.monotonic() - began)
    result = line.ask(timeout_s, padding_bytes)
    if result.outcome == "answered":
        line.end()
    else:
        line.cut()
    return result
