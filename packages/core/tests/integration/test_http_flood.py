"""Hostile clients over real sockets, more than the surface has places for: every probe is answered all the same."""

from __future__ import annotations

import http.client
import logging
import resource
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress

import pytest
from prometheus_client import Metric

from rpa_core.config.tokens import grant
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake_api import Accepted, Hold, StatusView, Upload
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_testkit.waits import until

TOKEN = "a-token-of-the-intake"
_CLIENTS = 540  # beyond the default of 512 places
_PROBES = 25
_POST = b"POST /records/rpa1 HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 100000\r\n"
_BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
KINDS = {
    "silent": b"",
    "headers that never end": b"GET /health HTTP/1.1\r\nX-A: ",
    "a body without a token": _POST + b"\r\na",
    "a body with a token": _POST + _BEARER + b"\r\na",
    "a body after a page": b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\na",
    "metrics, never read": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
    "health, never read": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 400,
    "lookups with a token": b"GET /records/rpa1/k HTTP/1.1\r\nHost: x\r\n" + _BEARER + b"\r\n",
}


class SlowIntake:
    """Reads whole bodies; lookups do not come back before `over`."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def flows(self) -> Collection[str]:
        return ("rpa1",)

    def admit(self, flow: str) -> Hold | None:
        return None

    def accept(self, upload: Upload) -> Accepted:
        return Accepted(flow=upload.flow, accepted=len(b"".join(upload.body).splitlines()))

    def status(self, flow: str, key: str) -> StatusView | None:
        self.over.wait(60)
        return None


@pytest.fixture
def intake() -> Iterator[SlowIntake]:
    made = SlowIntake()
    yield made
    made.over.set()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(flow="rpa1")


@pytest.fixture
def serve(intake: SlowIntake, metrics: Metrics) -> Iterator[Callable[..., int]]:
    """Start a surface; returns its port."""
    servers: list[HttpServer] = []

    def start(**settings: float) -> int:
        config = HttpConfig(port=0, grants=(grant(TOKEN, ["*"], ["write", "read"]),), **settings)  # type: ignore[arg-type]  # numbers
        servers.append(HttpServer(config, HealthMonitor(), metrics, intake))
        servers[-1].start()
        return servers[-1].port

    yield start
    intake.over.set()
    for server in servers:
        server.stop(1.0)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of every connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Keeps up connections that say `first` and then one byte now and then; those that are cut are replaced."""

    def __init__(self, port: int, first: bytes, clients: int) -> None:
        self._port, self._first, self._clients = port, first, clients
        self.opened = 0
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Flood:
        self._thread.start()
        until(lambda: self.opened >= self._clients, 30, "the flood")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._open:
            client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._open = [client for client in self._open if self._keeps(client)]
            while len(self._open) < self._clients and not self._stop.is_set():
                self._add()
            self._stop.wait(0.02)

    def _add(self) -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(10)
        try:
            client.connect(("127.0.0.1", self._port))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.send(self._first)
        except OSError:
            client.close()
            return
        self.opened += 1
        self._open.append(client)

    def _keeps(self, client: socket.socket) -> bool:
        """Whether it still stands; it says one byte more, and reads nothing."""
        try:
            client.send(b"a")
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            return False
        return True


def probe(port: int, path: str = "/health/live") -> int:
    """The status of one probe on a connection of its own; 0 where there is no answer."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


@pytest.mark.requirement("R5.1", "R6.5")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("many_files")
def test_every_probe_is_answered_while_clients_hold_every_connection(serve: Callable[..., int], kind: str) -> None:
    """540 clients, refilled as they are cut: 25 of 25 live probes, and the metrics, are answered."""
    port = serve()
    with Flood(port, KINDS[kind], _CLIENTS):
        assert [probe(port) for _ in range(_PROBES)] == [200] * _PROBES
        assert probe(port, "/metrics") == 200


@pytest.mark.requirement("R5.1", "R6.5")
@pytest.mark.parametrize("kind", ["metrics, never read", "health, never read"])
def test_a_client_that_reads_nothing_is_cut(serve: Callable[..., int], kind: str) -> None:
    """Its answers cannot be sent: the connection ends although requests are still under way on it."""
    port = serve(write_timeout_s=0.5, header_timeout_s=60.0)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.settimeout(10)
        client.sendall(KINDS[kind])
        until(lambda: _is_cut(client), 20, "the server to close the connection")


class CountedCollector:
    """Counts how often it was asked; does not come back before `over`."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.times = 0

    def collect(self) -> Iterator[Metric]:
        self.times += 1
        self._over.wait(60)
        yield from ()


@pytest.mark.requirement("R5.2", "R6.5")
def test_many_scrapes_share_one_encoding(serve: Callable[..., int], metrics: Metrics) -> None:
    """Fifty at once, behind one that is under way: one more for all of them, and each gets its page."""
    over = threading.Event()
    collector = CountedCollector(over)
    port = serve()
    over.set()
    metrics.registry.register(collector)  # asks it for its names
    over.clear()
    collector.times = 0
    statuses: list[int] = []
    scrapes = [threading.Thread(target=lambda: statuses.append(probe(port, "/metrics"))) for _ in range(50)]
    scrapes[0].start()
    until(lambda: collector.times == 1, 20, "the first scrape")
    for scrape in scrapes[1:]:
        scrape.start()
    assert [probe(port) for _ in range(20)] == [200] * 20
    over.set()
    for scrape in scrapes:
        scrape.join()
    assert statuses == [200] * 50
    assert collector.times <= 10  # 50, were each to have its own


@pytest.mark.requirement("R6.5")
def test_requests_that_do_not_wait_for_answers_are_few(serve: Callable[..., int]) -> None:
    """Some that were sent at once are answered in order; then the connection is closed, and a new one goes on."""
    port = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        client.shutdown(socket.SHUT_WR)
        assert _everything(client).count(b"HTTP/1.1 200") == 5
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(KINDS["health, never read"])
        assert 5 <= _everything(client).count(b"HTTP/1.1 503") <= 20  # it has not started


@pytest.mark.requirement("R6.5")
def test_pipelined_requests_are_bounded(serve: Callable[..., int], intake: SlowIntake) -> None:
    """Megabytes of requests behind one that is not answered yet are not kept for it."""
    port = serve(header_timeout_s=60.0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(KINDS["lookups with a token"])
        with pytest.raises(ConnectionError):
            client.sendall(KINDS["health, never read"] * 1000)
    assert probe(port) == 200


@pytest.mark.requirement("R6.5")
@pytest.mark.usefixtures("many_files")
def test_an_upload_is_not_cut_for_newcomers(serve: Callable[..., int]) -> None:
    """However many come meanwhile, an admitted upload ends with its answer."""
    port = serve()
    body = b"a\n" * 50_000
    with socket.create_connection(("127.0.0.1", port), timeout=20) as upload:
        upload.sendall(_POST + _BEARER + b"\r\n" + body[:50_000])
        with Flood(port, KINDS["headers that never end"], _CLIENTS):
            assert probe(port) == 200
            upload.sendall(body[50_000:])
            assert upload.recv(1000).startswith(b"HTTP/1.1 202")


@pytest.mark.requirement("R5.3", "R6.5")
def test_malformed_requests_are_one_line_in_the_log(
    serve: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    """Each gets its 400; the log counts them and repeats nothing of them."""
    port = serve()
    with caplog.at_level(logging.INFO):
        for number in range(200):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"\x16\x03\x01 junk-%d\r\n\r\n" % number)
                assert client.recv(100).startswith(b"HTTP/1.1 400")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines == ["1 malformed HTTP request refused, the last one from 127.0.0.1"]


def _everything(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            got += piece
    return got


def _is_cut(client: socket.socket) -> bool:
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        return True
    with suppress(BlockingIOError):
        client.setblocking(False)
        try:
            client.send(b"a")
        except OSError as failure:
            return not isinstance(failure, BlockingIOError)
    return False
