"""From the socket to the committed record: the intake on a real PostgreSQL."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from rpa_core.config.tokens import grant
from rpa_core.health.checks import database_check
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake import StoreIntake
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_core.store.connect import connect
from rpa_core.store.database import Database
from rpa_testkit.waits import until

TOKEN = "a-token-of-the-intake"
BEARER = {"authorization": f"Bearer {TOKEN}"}
_BEARER_LINE = f"Authorization: Bearer {TOKEN}\r\n".encode()


@dataclass
class Surface:
    """A running intake, its metrics, and a look into its database."""

    port: int
    metrics: Metrics
    monitor: HealthMonitor
    dsn: str
    max_body_bytes: int = 8 * 1024 * 1024

    def post(
        self, body: Any, kind: str = "application/x-ndjson", query: str = "", **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, body and headers of one POST."""
        given = BEARER | {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/records/rpa1{query}", body, given, encode_chunked=not isinstance(body, bytes))
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body of one GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers=BEARER)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def records(self) -> list[tuple[str | None, Any]]:
        """Key and payload of every committed record, in order."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute("SELECT key, payload FROM rpa.record ORDER BY id").fetchall()

    def counted(self, result: str) -> float:
        """What the metric says."""
        labels = {"flow": "rpa1", "result": result}
        return self.metrics.registry.get_sample_value("rpa_intake_records_total", labels) or 0.0


@pytest.fixture
def serve() -> Iterator[Callable[..., Surface]]:
    """Start a surface over the database behind a DSN."""
    opened: list[Callable[[], None]] = []

    def start(dsn: str, **options: Any) -> Surface:
        metrics = Metrics(flow="rpa1")
        monitor = HealthMonitor(ttl_s=0.2, metrics=metrics)
        pool = Database("rpa_db", dsn).pool(max_size=4, timeout_s=2, application_name="test")
        monitor.register(database_check("rpa_db", pool, timeout_s=1.0))
        monitor.set_started()
        monitor.start()
        limits = {"max_body_bytes": Surface.max_body_bytes, "max_line_bytes": 100_000}
        intake = StoreIntake(pool, ["rpa1"], metrics=metrics, **(limits | options))
        grants = (grant(TOKEN, ["*"], ["write", "read"]),)
        config = HttpConfig(port=0, grants=grants, max_body_bytes=Surface.max_body_bytes)
        server = HttpServer(config, monitor, metrics, intake)
        server.start()
        opened.extend([pool.close, monitor.stop, server.stop])
        return Surface(server.port, metrics, monitor, dsn)

    yield start
    for close in reversed(opened):
        close()


@pytest.fixture
def surface(database: Any, serve: Callable[..., Surface]) -> Surface:
    return serve(database.dsn)


@pytest.mark.requirement("R8.7")
def test_what_is_answered_is_committed(surface: Surface) -> None:
    """202 says how many records are in the database, each with its text to the letter."""
    status, body, _ = surface.post(b'{"id":"a","n":123456789012345678901234567890}\n{"id":"b"}\n', query="?key=id")
    assert (status, body["accepted"], body["duplicates"]) == (202, 2, 0)
    assert [key for key, _ in surface.records()] == ["a", "b"]
    with psycopg.connect(surface.dsn) as connection:
        assert connection.execute("SELECT payload->>'n' FROM rpa.record WHERE key = 'a'").fetchone() == (
            "123456789012345678901234567890",
        )
    assert surface.counted("accepted") == 2


@pytest.mark.requirement("R8.7")
def test_a_body_without_a_header_line_loses_no_record(surface: Surface) -> None:
    """As its Content-Type says: the first line is a record too, columns have numbers, one of them may be the key."""
    status, body, _ = surface.post(b"a,1\nb,2\n", "text/csv; header=absent", query="?key=1")
    assert (status, body["accepted"]) == (202, 2)
    assert surface.records() == [("a", {"1": "a", "2": "1"}), ("b", {"1": "b", "2": "2"})]
    assert surface.post(b"a,1\n", "text/csv; header=absent", idempotency_key="r")[0] == 202
    assert surface.post(b"a,1\n", "text/csv", idempotency_key="r")[0] == 422, "another request under the same key"


@pytest.mark.requirement("R8.7")
def test_json_is_read_in_the_charset_that_is_declared(surface: Surface) -> None:
    """Not as UTF-8 whatever its sender says; a charset of any length that is not known is refused."""
    assert surface.post('{"n":"café"}'.encode("latin-1"), "application/json; charset=latin-1")[0] == 202
    assert surface.records() == [(None, {"n": "café"})]
    status, body, _ = surface.post(b'{"n":1}', f"application/json; charset={'x' * 20_000}")
    assert (status, "unknown text encoding" in body["detail"]) == (422, True)


@pytest.mark.requirement("R8.7")
def test_duplicate_keys_are_counted_and_stored_once(surface: Surface) -> None:
    """The same key twice in one upload, or again in a later one, is one record."""
    lines = b'{"id":"a"}\n{"id":"b"}\n{"id":"a"}\n'
    assert surface.post(lines, query="?key=id")[1]["duplicates"] == 1
    status, body, _ = surface.post(lines, query="?key=id")
    assert (status, body["accepted"], body["duplicates"]) == (202, 0, 3)
    assert [key for key, _ in surface.records()] == ["a", "b"]
    assert (surface.counted("accepted"), surface.counted("duplicate")) == (2, 4)


@pytest.mark.requirement("R8.7")
def test_a_record_can_be_looked_up_by_its_key(surface: Surface) -> None:
    """GET tells the state of a record, also under a key with slashes and spaces; an unknown one is 404."""
    surface.post('{"id":"wave 1/né"}\n'.encode(), query="?key=id")
    status, body = surface.get("/records/rpa1/wave%201/n%C3%A9")
    assert (status, body["key"], body["state"]) == (200, "wave 1/né", "ready")
    assert surface.get("/records/rpa1/wave%201%2Fn%C3%A9")[0] == 200
    assert surface.get("/records/rpa1/nope")[0] == 404
    assert surface.get("/records/rpa1/%00")[0] == 404
    assert surface.get("/records/nope/a")[0] == 404


@pytest.mark.requirement("N2", "N5")
def test_a_record_that_was_looked_up_is_where_it_is(surface: Surface) -> None:
    """A result keeps its digits; what nothing lists is `unknown`, and what was discarded is that, never `ready`."""
    surface.post(b'{"id":"a"}\n{"id":"b"}\n', query="?key=id")
    with psycopg.connect(surface.dsn) as connection:
        connection.execute("DELETE FROM rpa.chunk")
        connection.execute(
            "INSERT INTO rpa.result (record_id, chunk_id, period, data) SELECT id, 1, period,"
            " '{\"n\": 123456789012345678901234567890}' FROM rpa.record WHERE key = 'a'"
        )
    body = surface.get("/records/rpa1/a")[1]
    assert (body["state"], body["result"]) == ("done", {"n": 123456789012345678901234567890})
    assert surface.get("/records/rpa1/b")[1]["state"] == "unknown"
    with psycopg.connect(surface.dsn) as connection:
        connection.execute(
            "INSERT INTO rpa.dead_letter (record_id, period, flow, kind, tries, reasons, discarded)"
            " SELECT id, period, flow, 'rejected', 1, ARRAY['no'], 1 FROM rpa.record WHERE key = 'b'"
        )
    body = surface.get("/records/rpa1/b")[1]
    assert (body["state"], body["reasons"]) == ("discarded", ["no"])


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("bad_at", [0, 1, 1500, 4999])
def test_one_bad_line_anywhere_loads_nothing(surface: Surface, bad_at: int) -> None:
    """Chunks that were already on their way into the database are rolled back with the rest."""
    lines = [b'{"n":%d}' % n for n in range(5000)]
    lines[bad_at] = b"{broken"
    assert surface.post(b"\n".join(lines))[0] == 422
    assert surface.records() == []
    status, body, _ = surface.post(b"\n".join(lines), idempotency_key="again")
    assert (status, body["error_count"], body["errors"][0]["line"]) == (422, 1, bad_at + 1)
    assert surface.records() == []
    assert surface.counted("rejected") == 2
    lines[bad_at] = b"{}"
    assert surface.post(b"\n".join(lines), idempotency_key="again")[0] == 202, "a corrected upload may use the key"
    assert len(surface.records()) == 5000


@pytest.mark.requirement("R8.7")
def test_ten_thousand_bad_lines_are_counted(surface: Surface) -> None:
    """10,000 bad CSV lines among good ones: the count, the first hundred, nothing loaded."""
    body = b"a,b\n" + b"".join(b"%d,ok\n%d\n" % (n, n) for n in range(10_000))
    status, answer, _ = surface.post(body, "text/csv")
    assert (status, answer["error_count"], len(answer["errors"])) == (422, 10_000, 100)
    assert answer["errors"][0] == {"line": 3, "reason": "1 fields where the header has 2", "excerpt": "0"}
    assert surface.records() == []


@pytest.mark.requirement("R6.5", "R8.7")
def test_a_line_over_the_limit_is_named(surface: Surface) -> None:
    """A line of megabytes is one bad line."""
    status, answer, _ = surface.post(b'{"a":1}\n{"b":"' + b"x" * 5_000_000 + b'"}\n{"c":1}\n')
    assert (status, answer["error_count"], answer["errors"][0]["line"]) == (422, 1, 2)
    assert "the limit is 100000" in answer["errors"][0]["reason"]
    assert surface.records() == []


@pytest.mark.requirement("R6.5")
def test_what_a_gzip_body_unpacks_to_is_bounded(surface: Surface) -> None:
    """A bomb is refused as such; an honest body is held to the limit unpacked, too."""
    status, answer, _ = surface.post(gzip.compress(b"x" * 5_000_000), content_encoding="gzip")
    assert (status, "refused as hostile" in answer["detail"]) == (422, True)
    lines = b"".join(b'{"n":%d}\n' % n for n in range(700_000))
    assert len(lines) > surface.max_body_bytes > len(gzip.compress(lines))
    status, answer, _ = surface.post(gzip.compress(lines), content_encoding="gzip")
    assert (status, answer["type"]) == (413, "urn:rpa:problem:body-too-large")
    assert surface.records() == []


@pytest.mark.requirement("R8.2")
def test_a_truncated_upload_loads_nothing(surface: Surface) -> None:
    """A client that dies after thousands of good lines leaves nothing behind, and no connection is kept."""
    sent = b'{"n":1}\n' * 5000
    with socket.create_connection(("127.0.0.1", surface.port), timeout=20) as client:
        client.sendall(
            b"POST /records/rpa1 HTTP/1.1\r\nHost: x\r\n" + _BEARER_LINE + b"Content-Type: application/x-ndjson\r\n"
            b"Content-Length: 900000\r\n\r\n" + sent
        )
        until(lambda: in_transaction(surface.dsn) >= 1, 20, "the upload to reach the database")
    until(lambda: in_transaction(surface.dsn) == 0, 20, "the transaction to end")
    assert surface.records() == []
    assert surface.post(b'{"n":1}\n')[0] == 202
    assert len(surface.records()) == 1


def in_transaction(dsn: str, *, wrote: bool = False) -> int:
    """Other sessions of this database that are inside a transaction, or inside one that has written something."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'"
            " AND (backend_xid IS NOT NULL OR NOT %s)",
            (wrote,),
        ).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.requirement("R8.7")
def test_the_same_request_again_gets_the_first_answer(surface: Surface) -> None:
    """Same key and body: the same 202, marked as replayed. Same key, other body or key field: 422. Nothing twice."""
    body = b'{"n":1}\n{"n":2}\n'
    first = surface.post(body, idempotency_key="r-1")
    again = surface.post(iter([body[:5], body[5:]]), idempotency_key="r-1")
    assert (first[0], again[0]) == (202, 202)
    assert (first[2]["idempotency-replayed"], again[2]["idempotency-replayed"]) == (None, "true")
    assert (again[1]["accepted"], again[1]["duplicates"]) == (2, 0)
    assert surface.post(body + b'{"n":3}\n', idempotency_key="r-1")[0] == 422
    status, problem, _ = surface.post(body, query="?key=n", idempotency_key="r-1")
    assert (status, problem["type"]) == (422, "urn:rpa:problem:idempotency-key-reused")
    assert [key for key, _ in surface.records()] == ["r-1:1", "r-1:2"]
    assert surface.counted("accepted") == 2


@pytest.mark.requirement("R8.7")
def test_twins_at_the_same_time_load_once(surface: Surface) -> None:
    """Four equal requests at once under one key: one loads, the others wait and get its answer."""
    body = b"".join(b'{"n":%d}\n' % n for n in range(3000))
    ready = threading.Barrier(4)
    answers: list[tuple[int, Any, Any]] = []

    def send() -> None:
        ready.wait(10)
        answers.append(surface.post(body, idempotency_key="twin"))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(status, answer["accepted"]) for status, answer, _ in answers] == [(202, 3000)] * 4
    assert sorted(str(headers["idempotency-replayed"]) for _, _, headers in answers) == ["None", "true", "true", "true"]
    assert len(surface.records()) == 3000


@pytest.mark.requirement("R8.7")
def test_a_twin_of_a_slow_request_is_sent_away_after_a_while(database: Any, serve: Callable[..., Surface]) -> None:
    """While the first request under a key is still coming in, its twin gets 409 with Retry-After."""
    surface = serve(database.dsn, twin_wait_s=0.2)
    head = (
        b"POST /records/rpa1 HTTP/1.1\r\nHost: x\r\n" + _BEARER_LINE + b"Content-Type: application/x-ndjson\r\n"
        b"Idempotency-Key: slow\r\nContent-Length: 16\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", surface.port), timeout=20) as client:
        client.sendall(head + b'{"n":1}\n')
        until(lambda: in_transaction(surface.dsn, wrote=True) >= 1, 20, "the first request to claim the key")
        status, answer, headers = surface.post(b'{"n":1}\n{"n":2}\n', idempotency_key="slow")
        assert (status, answer["type"]) == (409, "urn:rpa:problem:idempotency-key-in-use")
        assert int(headers["retry-after"]) >= 1
        client.sendall(b'{"n":2}\n')
        assert client.recv(1000).startswith(b"HTTP/1.1 202")
    assert surface.post(b'{"n":1}\n{"n":2}\n', idempotency_key="slow")[2]["idempotency-replayed"] == "true"
    assert len(surface.records()) == 2


@pytest.mark.requirement("R6.2")
def test_a_large_upload_streams(surface: Surface) -> None:
    """100,000 records in one chunked CSV upload all arrive."""

    def body() -> Iterator[bytes]:
        yield b"id,text\n"
        for start in range(0, 100_000, 500):
            yield b"".join(b"%d,hello\n" % n for n in range(start, start + 500))

    status, answer, _ = surface.post(body(), "text/csv", query="?key=id")
    assert (status, answer["accepted"]) == (202, 100_000)
    with psycopg.connect(surface.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM rpa.record").fetchone() == (100_000,)


@pytest.mark.requirement("R2.2", "R2.5")
def test_the_database_may_go_and_come_back(
    private_postgres: Any, private_database: Any, serve: Callable[..., Surface]
) -> None:
    """Without PostgreSQL: 503 with Retry-After, not ready, alive. With it again, all by itself: 202 and ready."""
    surface = serve(private_database.dsn)
    assert surface.post(b"{}\n")[0] == 202
    until(lambda: surface.get("/readyz")[0] == 200, 20, "readiness")
    private_postgres.stop(mode="immediate")
    status, answer, headers = surface.post(b"{}\n")
    assert (status, answer["type"]) == (503, "urn:rpa:problem:store-unavailable")
    assert int(headers["retry-after"]) >= 1
    until(lambda: surface.get("/readyz")[0] == 503, 20, "readiness to fail")
    assert surface.get("/livez")[0] == 200
    private_postgres.start()
    until(lambda: surface.get("/readyz")[0] == 200, 20, "readiness to return")
    until(lambda: surface.post(b"{}\n")[0] == 202, 20, "the intake to return")
    with connect(private_database.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM rpa.record").fetchone() == (2,)
