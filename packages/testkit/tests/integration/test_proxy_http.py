"""An edge to an HTTP server: whole requests are answered, held up or lose their answer."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from rpa_testkit.ports import HOST
from rpa_testkit.proxy.client import HttpRule, Proxy, ProxyError
from rpa_testkit.waits import until

EDGE = "worker-1->server"
Connect = Callable[[], http.client.HTTPConnection]


class Server:
    """Notes what it is asked and answers with the body it was sent; /chunked without telling a length."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, body))
                path = urlsplit(self.path).path
                self.send_response(204 if path == "/empty" else 201)
                if path == "/chunked":
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                    return
                if path == "/until-the-end":
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.wfile.write(body)
                    return
                if path != "/empty":
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if path != "/empty" else b"")

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.http = ThreadingHTTPServer((HOST, 0), Answer)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        return HOST, int(self.http.server_address[1])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy.spawn(seed=7, env=os.environ) as made:
        made.open_edge(EDGE, server.address, protocol="http")
        yield made


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], http.client.HTTPConnection]]:
    """Makes connections through the edge."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(http.client.HTTPConnection(*proxy.address(EDGE), timeout=20)))


def _post(connection: http.client.HTTPConnection, path: str, body: bytes = b"words") -> tuple[int, bytes]:
    connection.request("POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.requirement("R3.3")
def test_without_a_rule_everything_passes_as_it_is(connect: Connect, proxy: Proxy, server: Server) -> None:
    """Bodies of every form, large ones, empty ones, many on one connection."""
    connection = connect()
    large = os.urandom(3_000_000)
    assert _post(connection, "/a", large) == (201, large)
    assert _post(connection, "/chunked", large[:70_000]) == (201, large[:70_000])
    assert _post(connection, "/empty") == (204, b"")
    assert _post(connection, "/until-the-end") == (201, b"words")
    connection.request("POST", "/b", iter([b"in ", b"pieces"]), encode_chunked=True)
    assert connection.getresponse().status == 201
    stats = proxy.http_stats(EDGE)
    assert (stats.requests, stats.passed, stats.answered, stats.dropped) == (5, 5, 0, 0)
    assert proxy.probe(EDGE, 5).outcome == "answered"


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("status", [401, 422, 429, 500, 503])
def test_a_rule_answers_in_the_server_s_place(connect: Connect, proxy: Proxy, server: Server, status: int) -> None:
    """The server hears nothing; the connection goes on; other paths pass; clearing ends it."""
    proxy.set_http(EDGE, HttpRule(status=status, path="/logs/"))
    connection = connect()
    told, body = _post(connection, "/api/logs/")
    assert told == status
    assert b"exception_message" in body
    assert _post(connection, "/api/flows/") == (201, b"words")
    assert [path for _, path, _ in server.asked] == ["/api/flows/"]
    proxy.clear(EDGE)
    assert _post(connection, "/api/logs/") == (201, b"words")


@pytest.mark.requirement("R3.3")
def test_a_dropped_answer_leaves_its_client_in_doubt(connect: Connect, proxy: Proxy, server: Server) -> None:
    """The server has done it; the client hears an RST."""
    proxy.set_http(EDGE, HttpRule(drop=True))
    with pytest.raises(ConnectionResetError):
        _post(connect(), "/runs/")
    assert server.asked == [("POST", "/runs/", b"words")]
    assert proxy.http_stats(EDGE).dropped == 1


@pytest.mark.requirement("R3.3")
def test_a_slow_server_is_slow(connect: Connect, proxy: Proxy, server: Server) -> None:
    """By what was asked, and others do not wait for it."""
    proxy.set_http(EDGE, HttpRule(delay_s=0.5, path="/slow"))
    began = time.monotonic()
    assert _post(connect(), "/slow") == (201, b"words")
    assert time.monotonic() - began >= 0.5
    assert server.asked == [("POST", "/slow", b"words")]


@pytest.mark.requirement("R3.3")
def test_a_flapping_server_answers_by_turns(connect: Connect, proxy: Proxy) -> None:
    """Both are seen, again and again."""
    proxy.set_http(EDGE, HttpRule(status=503, flap_s=0.2))
    connection, seen = connect(), [0]

    def look() -> bool:
        status, _ = _post(connection, "/")
        if status != seen[-1]:
            seen.append(status)
        return len(seen) > 5

    until(look, 20, "both answers in turn")
    assert seen[1:6] == [503, 201, 503, 201, 503]


@pytest.mark.requirement("R3.3")
def test_a_server_that_is_away_is_felt_by_its_clients(connect: Connect, proxy: Proxy, server: Server) -> None:
    """An RST, as without anything in between; it comes back by itself."""
    port = server.address[1]
    server.close()
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        _post(connect(), "/")
    assert proxy.probe(EDGE, 5).outcome in ("refused", "closed")
    again = ThreadingHTTPServer((HOST, port), server.http.RequestHandlerClass)
    threading.Thread(target=again.serve_forever, daemon=True).start()
    assert _post(connect(), "/") == (201, b"words")
    again.shutdown()
    again.server_close()


@pytest.mark.requirement("R3.3")
def test_what_cannot_be_meant_is_refused(proxy: Proxy, server: Server) -> None:
    """An answer that is no error; an edge that speaks something else."""
    with pytest.raises(ValueError, match="400 to 599"):
        HttpRule(status=200)
    proxy.open_edge("worker-1->other", server.address)
    with pytest.raises(ProxyError, match="does not lead to an HTTP server"):
        proxy.set_http("worker-1->other", HttpRule(status=500))
