"""Requests as proxies, people and odd clients write them, over raw sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import pytest

from rpa_core.config.tokens import grant
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake_api import Accepted, Hold, StatusView, Upload
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_testkit.waits import until

TOKEN = "a-token-of-the-intake"
BEARER = f"Authorization: Bearer {TOKEN}"
PAGES = (
    *("/health", "/health/live", "/livez", "/live", "/healthz", "/health/ready", "/readyz", "/ready"),
    *("/health/startup", "/startupz", "/version", "/metrics"),
)


class Answer(NamedTuple):
    """Status, headers by lower-case name, and body of the first answer on a connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: int  # 1xx answers before it

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


class Intake:
    """Counts lines, keeps the uploads, knows no record."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.asked: list[str] = []

    def flows(self) -> Collection[str]:
        return ("rpa1",)

    def admit(self, flow: str) -> Hold | None:
        return None

    def accept(self, upload: Upload) -> Accepted:
        self.uploads.append(upload)
        return Accepted(flow=upload.flow, accepted=len(b"".join(upload.body).splitlines()))

    def status(self, flow: str, key: str) -> StatusView | None:
        self.asked.append(key)
        return None


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def serve(intake: Intake) -> Iterator[Callable[..., int]]:
    """Start a surface; returns its port."""
    servers: list[HttpServer] = []

    def start(*, metrics: Metrics | None = None, **settings: Any) -> int:
        monitor = HealthMonitor()
        monitor.set_started()
        config = HttpConfig(port=0, grants=(grant(TOKEN, ["*"], ["write", "read"]),), **settings)
        servers.append(HttpServer(config, monitor, metrics, intake))
        servers[-1].start()
        return servers[-1].port

    yield start
    for server in servers:
        server.stop(1.0)


@pytest.fixture
def port(serve: Callable[..., int]) -> int:
    return serve(metrics=Metrics(flow="rpa1"))


def send(port: int, *lines: str, body: bytes = b"") -> Answer:
    """One request as it is written here; `Host` and `Connection: close` are added."""
    head = "\r\n".join((*lines, "Host: x", "Connection: close", "", ""))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head.encode("latin-1") + body)
        return received(client)


def received(client: socket.socket) -> Answer:
    """The first final answer."""
    got, interim = b"", 0
    while b"\r\n\r\n" not in got:
        got += (piece := client.recv(65536))
        assert piece, got
        while got.startswith(b"HTTP/1.1 1") and b"\r\n\r\n" in got:
            interim += 1
            got = got.partition(b"\r\n\r\n")[2]
    head, _, rest = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(rest) < int(headers.get("content-length", "0")) and (piece := client.recv(65536)):
        rest += piece
    return Answer(int(first.split()[1]), headers, rest, interim)


@pytest.mark.requirement("R5.1", "R5.2")
@pytest.mark.parametrize("page", PAGES)
def test_pages_are_found_however_they_are_asked_for(port: int, page: str) -> None:
    """With slashes behind, in absolute form as proxies ask, with a query, by HEAD."""
    for target in (page, f"{page}/", f"{page}//", f"http://worker:8080{page}", f"HTTPS://x{page}/?a=b", f"{page}?a=/"):
        assert send(port, f"GET {target} HTTP/1.1").status == 200, target
        head = send(port, f"HEAD {target} HTTP/1.1")
        assert (head.status, head.body) == (200, b""), target
    assert send(port, f"GET x{page} HTTP/1.1").status in (400, 404)
    assert send(port, f"POST {page} HTTP/1.1", "Content-Length: 0").status == 405


@pytest.mark.requirement("R8.7")
def test_records_are_posted_through_a_proxy_too(port: int, intake: Intake) -> None:
    """The absolute form of the target is the same request; its query counts."""
    lines = ("Content-Type: text/csv", "Content-Length: 4", BEARER)
    answer = send(port, "POST http://worker:8080/records/rpa1?key=id HTTP/1.1", *lines, body=b"a\n1\n")
    assert (answer.status, intake.uploads[0].key_field) == (202, "id")
    assert send(port, "GET http://worker:8080/records/rpa1/a%2Fb HTTP/1.1", BEARER).status == 404
    assert intake.asked == ["a/b"]


@pytest.mark.requirement("R8.7")
def test_near_misses_are_answered_with_the_way(port: int) -> None:
    """A slash too many, the wrong method, no key: what to send instead."""
    lines = ("Content-Type: text/csv", "Content-Length: 4", BEARER)
    answer = send(port, "POST /records/rpa1/ HTTP/1.1", *lines, body=b"a\n1\n")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "POST /records/rpa1," in answer.detail
    answer = send(port, "GET /records/rpa1 HTTP/1.1", BEARER)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "GET /records/rpa1/KEY" in answer.detail
    answer = send(port, "GET /records/rpa1/ HTTP/1.1", BEARER)
    assert (answer.status, "key ''" in answer.detail) == (404, True)
    assert send(port, "HEAD /records/rpa1/k HTTP/1.1", BEARER).status == 404
    assert send(port, "DELETE /records/rpa1/k HTTP/1.1", BEARER).status == 405
    assert send(port, "OPTIONS * HTTP/1.1").status in (400, 404, 405)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("kind", "status", "hint"),
    [
        ("text/csv; header=present; charset=utf-8", 202, ""),
        ("text/csv;", 202, ""),
        ('application/json; charset="UTF-8"', 202, ""),
        ("text/csv; header=absent", 202, ""),
        ("text/csv; header=none", 415, "header=none"),
        ("text/csv; delimiter=;", 415, "charset, header"),
        ("text/csv; charset=utf-8; charset=latin-1", 415, "twice"),
        ("application/x-ndjson; header=absent", 415, "'header'"),
        ("application/json; charset=latin-1", 202, ""),
        ("application/json; odata=verbose", 415, "'odata'"),
    ],
)
def test_parameters_of_the_content_type_are_honoured_or_refused(
    port: int, intake: Intake, kind: str, status: int, hint: str
) -> None:
    """What would be read in another way than its sender says is not read at all."""
    answer = send(
        port, "POST /records/rpa1 HTTP/1.1", f"Content-Type: {kind}", "Content-Length: 4", BEARER, body=b"a\n1\n"
    )
    assert answer.status == status
    assert len(intake.uploads) == (status == 202)
    if hint:
        assert hint in answer.detail


@pytest.mark.requirement("R6.5", "R7.3")
def test_ambiguous_and_oversized_requests_are_refused(port: int, intake: Intake) -> None:
    """Two lengths, a length that is none, very many or very long headers; the connection is closed."""
    chunked = ("Content-Type: text/csv", BEARER, "Transfer-Encoding: chunked")
    both = send(port, "POST /records/rpa1 HTTP/1.1", *chunked, "Content-Length: 3", body=b"4\r\na\n1\n\r\n0\r\n\r\n")
    assert both.status == 400
    for lengths in (("Content-Length: 4", "Content-Length: 5"), ("Content-Length: -1",), ("Content-Length: 4x",)):
        assert send(port, "POST /records/rpa1 HTTP/1.1", "Content-Type: text/csv", BEARER, *lengths).status == 400
    assert send(port, "POST /records/rpa1 HTTP/1.1", *chunked[:2], "Transfer-Encoding: gzip").status in (400, 501)
    many = send(port, "GET /health HTTP/1.1", *(f"X-{number}: y" for number in range(200)))
    assert many.status == 431
    assert send(port, "GET /health HTTP/1.1", f"X-Long: {'y' * 70_000}").status in (400, 431)
    assert intake.uploads == []


@pytest.mark.requirement("R8.7")
def test_chunk_extensions_and_trailers_are_read_over(port: int, intake: Intake) -> None:
    """They are no part of the body."""
    lines = ("Content-Type: text/csv", BEARER, "Transfer-Encoding: chunked")
    answer = send(port, "POST /records/rpa1 HTTP/1.1", *lines, body=b"4;a=b\r\na\n1\n\r\n0\r\nX-T: 1\r\n\r\n")
    assert (answer.status, json.loads(answer.body)["accepted"]) == (202, 2)


@pytest.mark.requirement("R7.3", "R6.5")
def test_a_refused_client_that_waits_for_100_is_not_told_to_go_on(port: int) -> None:
    """It gets its 401 and need not send the body; one with the token is told to go on."""
    lines = ("Content-Type: text/csv", "Content-Length: 4", "Expect: 100-continue")
    answer = send(port, "POST /records/rpa1 HTTP/1.1", *lines)
    assert (answer.status, answer.interim) == (401, 0)
    answer = send(port, "POST /records/rpa1 HTTP/1.1", *lines, BEARER, body=b"a\n1\n")
    assert answer.status == 202


@pytest.mark.requirement("R7.3", "R6.5")
def test_a_refusal_comes_while_the_body_is_on_its_way(serve: Callable[..., int], intake: Intake) -> None:
    """The answer does not wait for the body, which is read no further than the header timeout."""
    port = serve(header_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        head = "POST /records/rpa1 HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000000000\r\n\r\n"
        client.sendall(head.encode() + b"a" * 100_000)
        assert received(client).status == 401

        def is_cut() -> bool:
            try:
                client.sendall(b"a" * 10_000)
            except OSError:
                return True
            return False

        until(is_cut, 20, "the connection to be closed")
    assert intake.uploads == []


@pytest.mark.requirement("R5.2", "R1.2")
def test_metrics_can_be_turned_off(serve: Callable[..., int]) -> None:
    """Then there is no such page."""
    assert send(serve(), "GET /metrics HTTP/1.1").status == 404
