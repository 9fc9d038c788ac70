"""Asking a worker over HTTP, as a probe does."""

from __future__ import annotations

import contextlib
import http.client
import re

from rpa_testkit.ports import HOST
from rpa_testkit.processes import WorkerProcess

_LISTENING = re.compile(r"listening on http://[^ ]+?:(\d+)")
_START_S = 30.0
_ANSWER_S = 10.0


def port(worker: WorkerProcess) -> int:
    """Of its probes; waits until it listens."""
    worker.wait_for_log("listening on http", _START_S)
    found = _LISTENING.search(worker.log_text())
    assert found is not None
    return int(found[1])


def connection(at: int) -> http.client.HTTPConnection:
    """To a worker's port, not yet open."""
    return http.client.HTTPConnection(HOST, at, timeout=_ANSWER_S)


def ask(at: int, path: str) -> tuple[int, bytes]:
    """Status and body, over a connection of its own."""
    with contextlib.closing(connection(at)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()
