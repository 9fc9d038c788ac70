"""The intake over real sockets, on top of an intake of the test's own: what HTTP itself has to get right."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rpa_core.config.tokens import grant
from rpa_core.errors import StoreRefused, StoreUnavailable
from rpa_core.formats import BadLine, decompressed, read
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake_api import Accepted, BadLines, Hold, StatusView, Upload
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_testkit.waits import until

TOKEN = "s3same-0pen-for-tests"
GRANTS = (grant(TOKEN, ["*"], ["write", "read"]),)


@dataclass
class MemoryIntake:
    """Counts records like the real one, and does what a test tells it to."""

    wait_s: float | None = None
    error: Exception | None = None
    uploads: list[Upload] = field(default_factory=list)
    loaded: int = 0
    ended: list[str] = field(default_factory=list)
    hold: threading.Event | None = None

    def flows(self) -> Collection[str]:
        return ("rpa1", "rpa2")

    def admit(self, flow: str) -> Hold | None:
        return Hold("too many records wait", self.wait_s) if flow == "rpa1" and self.wait_s is not None else None

    def accept(self, upload: Upload) -> Accepted:
        self.uploads.append(upload)
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            self.hold.wait(10)
        try:
            plain = decompressed(upload.body, required=upload.gzip)
            items = list(read(plain, upload.form, key_field=upload.key_field, encoding=upload.encoding))
        except Exception as error:
            self.ended.append(type(error).__name__)
            raise
        wrong = [item for item in items if isinstance(item, BadLine)]
        if wrong:
            raise BadLines(tuple(wrong[:100]), len(wrong))
        self.loaded += len(items)
        return Accepted(flow=upload.flow, accepted=len(items), duplicates=0)

    def status(self, flow: str, key: str) -> StatusView | None:
        if self.error is not None:
            raise self.error
        return None


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def monitor() -> HealthMonitor:
    return HealthMonitor()


@pytest.fixture
def port(intake: MemoryIntake, monitor: HealthMonitor) -> Iterator[int]:
    config = HttpConfig(
        port=0,
        grants=GRANTS,
        max_body_bytes=1024 * 1024,
        max_uploads=2,
        idle_timeout_s=0.5,
        upload_timeout_s=3,
        linger_s=1,
    )
    server = HttpServer(config, monitor, None, intake)
    server.start()
    yield server.port
    if intake.hold is not None:
        intake.hold.set()
    server.stop()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def post(port: int, body: Any, kind: str = "application/x-ndjson", flow: str = "rpa1", **headers: str) -> Answer:
    """One POST; `body` is bytes, or an iterator for a chunked one."""
    given = {"content-type": kind, "authorization": f"Bearer {TOKEN}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", f"/records/{flow}", body, given, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def start_upload(port: int, declared_bytes: int, sent: bytes) -> socket.socket:
    """Headers and the beginning of a body, on a raw socket."""
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(
        f"POST /records/rpa1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {declared_bytes}\r\n\r\n".encode()
        + sent
    )
    return client


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("kind", "body", "count"),
    [
        ("application/json", b'{"a":1}', 1),
        ("application/json; charset=utf-8", b'[{"a":1},{"a":2}]', 2),
        ("application/x-ndjson", b'{"a":1}\n{"a":2}\n', 2),
        ("text/csv", b"a,b\n1,2\n3,4\n", 2),
        ("Text/CSV; charset=cp1252", "a,b\n1,café\n".encode("cp1252"), 1),
        ("text/tab-separated-values", b"a\tb\n1\t2\n", 1),
    ],
)
def test_takes_every_format(port: int, intake: MemoryIntake, kind: str, body: bytes, count: int) -> None:
    """JSON, NDJSON, CSV and TSV are taken, plain or gzipped, whole or chunked; the answer is 202 with counts."""
    for given, headers in ((body, {}), (gzip.compress(body), {"content_encoding": "gzip"})):
        answer = post(port, given, kind, **headers)
        assert answer.status == 202, answer.text
        assert (answer.body["flow"], answer.body["accepted"], answer.body["duplicates"]) == ("rpa1", count, 0)
        assert len(answer.body["request_id"]) == 32
    assert post(port, iter([body[:3], body[3:]]), kind).body["accepted"] == count
    assert intake.loaded == 3 * count


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer caf\xe9"]
)
def test_a_wrong_token_gets_401_and_nothing_is_read(port: int, intake: MemoryIntake, given: str) -> None:
    """Without the right bearer token there is a challenge, for both endpoints, and no hint of the right one."""
    answer = post(port, b'{"a":1}', authorization=given)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="rpa"')
    assert TOKEN.encode() not in answer.text
    assert intake.uploads == []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/records/rpa1/k")
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.requirement("R8.7")
def test_refusals_name_the_way_out(port: int) -> None:
    """Unknown flow, type, encoding and idempotency key: each a problem that says what is accepted."""
    answer = post(port, b"{}", flow="nope")
    assert (answer.status, answer.body["flows"]) == (404, ["rpa1", "rpa2"])
    assert answer.headers["content-type"] == "application/problem+json"
    answer = post(port, b"{}", "application/xml")
    assert answer.status == 415
    assert "text/csv" in answer.headers["accept-post"]
    answer = post(port, b"{}", content_encoding="br")
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip")
    assert post(port, b"{}", idempotency_key="x" * 256).status == 400
    answer = post(port, b"a\n1\n", "text/csv; charset=klingon")
    assert (answer.status, "klingon" in answer.body["detail"]) == (422, True)
    assert post(port, b"junk", content_encoding="gzip").status == 422


@pytest.mark.requirement("R8.7")
def test_bad_lines_are_all_counted_and_the_first_hundred_named(port: int, intake: MemoryIntake) -> None:
    """10,000 bad lines among good ones: 422 with the count, the first hundred in full, and nothing loaded."""
    body = b"".join(b'{"n":%d}\nbroken %d\n' % (n, n) for n in range(10_000))
    answer = post(port, body)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.body["error_count"] == 10_000
    assert len(answer.body["errors"]) == 100
    assert answer.body["errors"][0]["line"] == 2
    assert answer.body["errors"][0]["excerpt"] == "broken 0"
    assert "not valid JSON" in answer.body["errors"][0]["reason"]
    assert intake.loaded == 0


@pytest.mark.requirement("R6.5")
def test_a_body_over_the_limit_gets_413(port: int, intake: MemoryIntake) -> None:
    """Declared or found out on the way, a body over the limit is refused, and the client sees the answer."""
    assert post(port, b"x" * (1024 * 1024 + 1)).status == 413
    assert intake.uploads == []
    assert post(port, (b'{"a":1}\n' * 1024 for _ in range(200))).status == 413
    assert intake.loaded == 0


@pytest.mark.requirement("R6.5")
def test_a_body_larger_than_the_pipe_flows(port: int, intake: MemoryIntake) -> None:
    """A body larger than what the pipe between socket and thread holds arrives complete."""
    assert post(port, b'{"a":1}\n' * (1024 * 128)).body["accepted"] == 131_072


@pytest.mark.requirement("R6.5")
def test_backpressure_answers_429_with_retry_after(port: int, intake: MemoryIntake) -> None:
    """While the gate is closed nothing is read; the answer says when to come back."""
    intake.wait_s = 7.2
    answer = post(port, b'{"a":1}\n')
    assert (answer.status, answer.headers["retry-after"]) == (429, "8")
    assert "too many records wait" in answer.body["detail"]
    assert intake.uploads == []
    assert post(port, b'{"a":1}\n', flow="rpa2").status == 202, "another flow's gate is its own"
    intake.wait_s = None
    assert post(port, b'{"a":1}\n').status == 202


@pytest.mark.requirement("R2.2", "R7.3")
@pytest.mark.parametrize("error", [StoreUnavailable("db.internal:5432 refused"), StoreRefused("password of role app")])
def test_an_unusable_database_is_503_and_its_words_stay_inside(
    port: int, intake: MemoryIntake, error: Exception
) -> None:
    """The client is told to come back, not what the database is called; the next try works by itself."""
    intake.error = error
    answer = post(port, b'{"a":1}\n')
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert str(error).encode() not in answer.text
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/records/rpa1/k", headers={"authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 503
    connection.close()
    intake.error = None
    assert post(port, b'{"a":1}\n').status == 202


@pytest.mark.requirement("R8.7")
def test_a_defect_is_500_without_its_text(port: int, intake: MemoryIntake, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged under the request id, and not shown."""
    intake.error = ZeroDivisionError("secret detail")
    answer = post(port, b'{"a":1}\n')
    assert answer.status == 500
    assert b"secret detail" not in answer.text
    assert answer.body["request_id"] in caplog.text


@pytest.mark.requirement("R5.5")
def test_draining_refuses_uploads(port: int, monitor: HealthMonitor, intake: MemoryIntake) -> None:
    """A container that is stopping takes nothing more."""
    monitor.set_draining()
    answer = post(port, b'{"a":1}\n')
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert intake.uploads == []


@pytest.mark.requirement("R8.2")
def test_a_truncated_upload_is_ended_and_loads_nothing(port: int, intake: MemoryIntake) -> None:
    """A client that closes in the middle of the body: the reader is told, whole lines before the cut do not count."""
    with start_upload(port, 10_000, b'{"a":1}\n' * 100):
        until(lambda: intake.uploads, 20, "the upload to begin")
    until(lambda: intake.ended, 20, "the upload to end")
    assert intake.ended == ["UploadAborted"]
    assert intake.loaded == 0
    assert post(port, b'{"a":1}\n').status == 202


@pytest.mark.requirement("R6.5")
def test_a_client_that_goes_silent_is_told_so(port: int, intake: MemoryIntake) -> None:
    """A body that stops coming gets 408 after the idle timeout and its place is free again."""
    for _ in range(3):  # more than may run at once
        with start_upload(port, 10_000, b'{"a":1}\n') as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 408")
    assert intake.ended == ["UploadAborted"] * 3
    assert post(port, b'{"a":1}\n').status == 202


@pytest.mark.requirement("R6.5")
def test_a_client_that_trickles_is_bounded_as_a_whole(port: int, intake: MemoryIntake) -> None:
    """One byte now and then keeps the idle timeout away, not the upload's deadline."""
    halt = threading.Event()
    with start_upload(port, 10_000, b'{"a":1}\n') as client:

        def trickle() -> None:
            while not halt.wait(0.1):
                try:
                    client.sendall(b" ")
                except OSError:  # the server has closed
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert client.recv(1000).startswith(b"HTTP/1.1 408")
        finally:
            halt.set()
            sender.join()


@pytest.mark.requirement("R6.5")
def test_uploads_at_once_are_bounded_and_probes_are_not(port: int, intake: MemoryIntake) -> None:
    """With every place taken an upload gets 429, while probes are answered."""
    intake.hold = threading.Event()
    results: list[int] = []
    clients = [threading.Thread(target=lambda: results.append(post(port, b'{"a":1}\n').status)) for _ in range(2)]
    for client in clients:
        client.start()
    until(lambda: len(intake.uploads) == 2, 20, "both places to be taken")
    answer = post(port, b'{"a":1}\n')
    assert (answer.status, answer.body["type"]) == (429, "urn:rpa:problem:too-many-uploads")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    intake.hold.set()
    for client in clients:
        client.join()
    assert results == [202, 202]


@pytest.mark.requirement("R8.7")
def test_keys_and_idempotency_reach_the_intake(port: int, intake: MemoryIntake) -> None:
    """The key field of the query and the idempotency key of the header arrive as they were sent."""
    post(port, b'{"a":1}\n', flow="rpa1?key=a", idempotency_key='"abc"')
    (upload,) = intake.uploads
    assert (upload.key_field, upload.idempotency_key) == ("a", "abc")


@pytest.mark.requirement("R5.5")
def test_stopping_the_server_ends_uploads_without_loading(monitor: HealthMonitor, intake: MemoryIntake) -> None:
    """An upload that is under way when the server stops is rolled back, and the stop does not wait for it."""
    server = HttpServer(HttpConfig(port=0, grants=GRANTS), monitor, None, intake)
    server.start()
    with start_upload(server.port, 10_000, b'{"a":1}\n') as client:
        until(lambda: intake.uploads, 20, "the upload to begin")
        server.stop(0.5)
        assert client.recv(1000).startswith(b"HTTP/1.1 503")
    until(lambda: intake.ended, 20, "the upload to end")
    assert (intake.ended, intake.loaded) == (["UploadAborted"], 0)
