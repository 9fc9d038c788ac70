"""One POST, with the standard library alone: no proxies from the environment, no redirects, one time for the whole."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

_LONGEST_ANSWER = 4096


class Answer(NamedTuple):
    """A status and the beginning of the body."""

    status: int
    text: str


def post(url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float) -> Answer:
    """POST `body`. Raises OSError or http.client.HTTPException where there is no whole answer within the time."""
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout_s)
    over = threading.Event()
    deadline = threading.Timer(timeout_s, _cut, (connection, over))
    deadline.daemon = True
    deadline.start()
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", path, body, {**headers, "User-Agent": "rpa-alerts", "Connection": "close"})
        response = connection.getresponse()
        answer = Answer(response.status, response.read(_LONGEST_ANSWER).decode("utf-8", "replace"))
    finally:
        deadline.cancel()
        connection.close()
    if over.is_set():  # the reader took the cut for the end of the headers
        raise TimeoutError(f"no whole answer within {timeout_s:g} s")
    return answer


def _connection(scheme: str, host: str, port: int | None, timeout_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _cut(connection: http.client.HTTPConnection, over: threading.Event) -> None:
    """End it under the reader's hands: a server that answers byte by byte never runs into the socket's timeout."""
    over.set()
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
