"""The HTTP surface over real sockets: probes, metrics, refusals, bad clients, a busy process."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpa_core.cli.health import run as health
from rpa_core.config.models import ContainerConfig, HealthCheckConfig
from rpa_core.errors import ConfigError, UsageError
from rpa_core.health import ports
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.model import Check, Finding
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture
def monitor() -> Iterator[HealthMonitor]:
    made = HealthMonitor(ttl_s=0.1)
    yield made
    made.stop()


@pytest.fixture
def server(monitor: HealthMonitor) -> Iterator[HttpServer]:
    made = HttpServer(
        HttpConfig(port=0, service="rpa1", release="1.2.3", header_timeout_s=1.0), monitor, Metrics(flow="rpa1")
    )
    made.start()
    yield made
    made.stop()


LIVE = ("/health/live", "/livez", "/live", "/healthz")
READY = ("/health/ready", "/readyz", "/ready")
STARTUP = ("/health/startup", "/startupz")


@pytest.mark.requirement("R5.1")
def test_probes_follow_the_life_of_the_container(server: HttpServer, monitor: HealthMonitor) -> None:
    """Every name of every probe tells starting, running and draining; liveness passes throughout."""

    def codes() -> list[set[int]]:
        return [{ask(server.port, path)[0] for path in paths} for paths in (LIVE, READY, STARTUP, ("/health",))]

    assert codes() == [{200}, {503}, {503}, {503}]
    monitor.set_started()
    assert codes() == [{200}, {200}, {200}, {200}]
    monitor.set_draining()
    assert codes() == [{200}, {503}, {200}, {503}]


@pytest.mark.requirement("R5.1")
def test_health_is_health_json(server: HttpServer, monitor: HealthMonitor) -> None:
    """The body is health+json that nobody caches; HEAD has the same status and no body."""
    monitor.register(
        Check(
            name="rpa_db:connection",
            run=lambda: Finding(status="healthy", message="ok", observed=3, unit="ms"),
            what="x",
            advice="y",
            kind="datastore",
        )
    )
    monitor.set_started()
    monitor.tick()
    wait_until(lambda: ask(server.port, "/readyz")[0] == 200)
    status, headers, text = ask(server.port, "/health")
    body = json.loads(text)
    assert status == 200
    assert headers["content-type"] == "application/health+json"
    assert headers["cache-control"] == "no-store"
    assert (body["status"], body["version"], body["releaseId"], body["serviceId"]) == ("pass", "1", "1.2.3", "rpa1")
    entry = body["checks"]["rpa_db:connection"][0]
    assert (entry["componentType"], entry["status"], entry["observedValue"], entry["observedUnit"]) == (
        "datastore",
        "pass",
        3,
        "ms",
    )
    assert entry["time"].endswith("Z")
    assert "checks" not in json.loads(ask(server.port, "/readyz")[2])
    status, headers, text = ask(server.port, "/health", "HEAD")
    assert (status, text, headers["content-type"]) == (200, b"", "application/health+json")


def wait_until(condition: Any) -> None:
    """Wait on a condition that a probe shows; at most ten seconds."""
    from rpa_testkit.waits import until

    until(condition, 20, "the probe to change")


@pytest.mark.requirement("R5.1")
def test_details_are_shown_only_when_configured(monitor: HealthMonitor) -> None:
    """Without details /health names no part and no reason."""
    server = HttpServer(HttpConfig(port=0, details=False), monitor)
    server.start()
    try:
        assert set(json.loads(ask(server.port, "/health")[2])) == {
            "status",
            "version",
            "releaseId",
            "serviceId",
            "description",
        }
    finally:
        server.stop()


@pytest.mark.requirement("R5.2")
def test_metrics_are_valid_exposition_in_the_format_that_is_asked_for(server: HttpServer) -> None:
    """Plain text by default, OpenMetrics on request; both parse, and names keep the conventions."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
    from prometheus_client.parser import text_string_to_metric_families as plain

    _, headers, text = ask(server.port, "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name for family in plain(text.decode())}
    assert {"rpa_records", "rpa_intake_records", "rpa_build_info"} <= families
    assert all(name.startswith("rpa_") for name in families)
    _, headers, text = ask(server.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {family.name for family in open_metrics(text.decode())} >= {  # type: ignore[no-untyped-call]  # an untyped library
        "rpa_records",
        "rpa_build_info",
    }


@pytest.mark.requirement("R5.1")
def test_version_and_refusals(server: HttpServer) -> None:
    """/version tells the release; an unknown path and a wrong method are problem+json."""
    assert json.loads(ask(server.port, "/version")[2])["version"] == "1.2.3"
    status, headers, text = ask(server.port, "/nope")
    assert (status, headers["content-type"], json.loads(text)["status"]) == (404, "application/problem+json", 404)
    status, headers, text = ask(server.port, "/health", "POST")
    assert (status, headers["content-type"]) == (405, "application/problem+json")
    assert "GET" in headers["allow"]
    assert ask(server.port, "/records/rpa1", "POST")[0] == 404, "no intake was given"


@pytest.mark.requirement("R1.1", "R5.1")
def test_a_port_that_is_taken_is_a_configuration_error(server: HttpServer, monitor: HealthMonitor) -> None:
    """The message names the address, the reason and the variables."""
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{server.port}.*CONTAINER_HEALTH_PORT"):
        HttpServer(HttpConfig(port=server.port), monitor).start()
    with pytest.raises(ConfigError, match="cannot listen on"):
        HttpServer(HttpConfig(host="203.0.113.1", port=0), monitor).start()
    with pytest.raises(UsageError, match="before start"):
        _ = HttpServer(HttpConfig(port=0), monitor).port


@pytest.mark.requirement("R1.1", "R5.1")
def test_a_default_port_that_is_taken_moves_on(
    server: HttpServer, monitor: HealthMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    """To one of the next ports, with a line that says so; an address that is not this machine's is still an error."""
    others = [HttpServer(HttpConfig(port=server.port, move_on=True), monitor) for _ in range(3)]
    try:
        with caplog.at_level("INFO"):
            for other in others:
                other.start()
        assert len({server.port, *(other.port for other in others)}) == 4
        assert f"listening on http://127.0.0.1:{others[0].port}, because port {server.port} is taken" in caplog.text
        assert {ask(other.port, "/livez")[0] for other in others} == {200}
    finally:
        for other in others:
            other.stop()
    with pytest.raises(ConfigError, match="cannot listen on"):
        HttpServer(HttpConfig(host="203.0.113.1", port=8080, move_on=True), monitor).start()


@pytest.mark.requirement("R1.1", "R5.1")
@pytest.mark.parametrize(("given", "moves"), [({}, True), ({"port": 8080}, False), ({"port": 0}, False)])
def test_only_a_port_that_nobody_set_moves_on(given: dict[str, int], moves: bool) -> None:
    """One that was set is what something else will ask."""
    config = ContainerConfig(flow_name="f", health_check_config=HealthCheckConfig(**given))  # type: ignore[arg-type]  # the port alone
    assert HttpConfig.from_container(config).move_on is moves


@pytest.mark.requirement("R5.1")
def test_rpa_health_finds_the_port_that_was_taken(
    server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker whose port no variable names writes it down; of several the flow's is asked, the others are named."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    end = [ports.announce("rpa1", server.port), ports.announce("rpa2", 1), ports.announce("rpa3", 2)]
    assert health(["--scope", "live"], {"CONTAINER_FLOW_NAME": "rpa1"}) == 0
    assert health(["--scope", "live"], {"CONTAINER_HEALTH_PORT": str(server.port)}) == 0
    assert "another worker" not in capsys.readouterr().err
    assert health(["--scope", "live"], {}) == 1
    assert f"another worker, of rpa1, listens on port {server.port}" in capsys.readouterr().err
    end.pop()()
    end.pop()()
    assert health(["--scope", "live"], {"CONTAINER_HEALTH_PORT": "0"}) == 0
    end.pop()()
    assert ports.announced() == []
    (folder,) = tmp_path.iterdir()
    (folder / "1-7.json").write_text('[1, "killed", 7]')
    assert ports.announced() == []
    assert list(folder.iterdir()) == []  # what a killed worker left goes
    folder.chmod(0o777)
    ports.announce("rpa1", server.port)()
    assert ports.announced() == []  # strangers may write there


@pytest.mark.requirement("R5.1")
def test_stop_frees_the_port_and_ends_the_thread(monitor: HealthMonitor) -> None:
    """After stop() the port can be had again, even with an idle connection open."""
    server = HttpServer(HttpConfig(port=0), monitor)
    server.start()
    port = server.port
    with socket.create_connection(("127.0.0.1", port)):
        server.stop(1.0)
    assert not any(thread.name == "http" for thread in threading.enumerate())
    again = HttpServer(HttpConfig(port=port), monitor)
    again.start()
    again.stop()


@pytest.mark.requirement("R5.1", "R6.5")
@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_client_that_never_finishes_its_headers_is_cut_off(server: HttpServer, said: bytes) -> None:
    """A silent connection and one that never ends its headers are closed after the header timeout."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(said)
        with contextlib.suppress(ConnectionResetError):  # which is as good as an end
            assert client.recv(1) == b""
    assert ask(server.port, "/livez")[0] == 200


@pytest.mark.requirement("R6.5")
def test_connections_are_bounded(monitor: HealthMonitor) -> None:
    """Strangers who hold connections open are turned away beyond the bound, and the places come back."""
    server = HttpServer(HttpConfig(port=0, max_connections=4, header_timeout_s=1.0), monitor)
    server.start()
    try:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(8)]
            with contextlib.suppress(ConnectionResetError):
                assert held[-1].recv(1) == b""
            wait_until(lambda: answers(server.port))
    finally:
        server.stop()


def answers(port: int) -> bool:
    """Whether a probe gets an answer."""
    try:
        return ask(port, "/livez")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


@pytest.mark.requirement("R5.1")
def test_garbage_is_answered_with_400(server: HttpServer) -> None:
    """What is not HTTP gets a refusal, and the surface goes on."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert ask(server.port, "/livez")[0] == 200


_CLIENT = """
import http.client, sys
for _ in range(100):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    connection.request("GET", sys.argv[2])
    print(connection.getresponse().status)
    connection.close()
"""


@pytest.mark.requirement("R5.1")
@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_answers_while_a_handler_burns_cpu(server: HttpServer, monitor: HealthMonitor, path: str) -> None:
    """Pure Python on another thread does not keep the surface from answering; asked from another process, 100 times."""
    monitor.set_started()
    over = threading.Event()

    def burn() -> None:
        number = 0
        while not over.is_set():
            for _ in range(10_000):
                number = number * 31 % 1_000_003

    busy = threading.Thread(target=burn)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.001)  # as the runtime does; the library itself leaves it alone
    busy.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, str(server.port), path],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert busy.is_alive()
    finally:
        over.set()
        busy.join()
        sys.setswitchinterval(interval_s)
    assert done.stdout.split() == ["200"] * 100
