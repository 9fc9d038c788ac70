"""Looking at services over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rpa_core.cli.health import ask, run
from rpa_core.config.models import ServiceDependency
from rpa_core.services.diagnosis import Diagnosis, Fault
from rpa_core.services.endpoint import probe_service


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.rsplit("/", 1)[-1]) if self.path[-1].isdigit() else 200
        body = b'{"status": "fail", "output": "a check fails", "checks": {"a:b": [{"status": "fail", "output": "x"}]}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    """A server that answers with the status its path asks for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(url: str, timeout: float = 2.0) -> Diagnosis | None:
    return probe_service(ServiceDependency(service_name="x", health_endpoint=url, timeout=timeout))


@pytest.mark.requirement("R2.1", "R2.2")
def test_statuses(web: str) -> None:
    """2xx is healthy; refusals are final, the rest may pass."""
    assert probe(f"{web}/") is None
    assert probe(f"{web}/204") is None
    for status, fault, final in ((403, Fault.DENIED, True), (503, Fault.STATUS, False), (404, Fault.STATUS, False)):
        found = probe(f"{web}/{status}")
        assert found is not None
        assert (found.fault, found.final) == (fault, final)


@pytest.mark.requirement("R2.1", "R2.2", "R2.5")
def test_the_network(silent: int) -> None:
    """Nobody there, nobody answering, no such name, TLS where there is none: told apart; an open TCP port is enough."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()[1]
        assert probe(f"tcp://127.0.0.1:{closed}") is None
    for url, fault in (
        (f"http://127.0.0.1:{closed}/", Fault.REFUSED),
        (f"tcp://127.0.0.1:{closed}", Fault.REFUSED),
        (f"http://127.0.0.1:{silent}/", Fault.TIMEOUT),
        ("http://no-such-host.invalid/", Fault.UNRESOLVABLE),
        ("tcp://no-such-host.invalid:80", Fault.UNRESOLVABLE),
    ):
        found = probe(url, timeout=0.3)
        assert found is not None
        assert (found.fault, found.final) == (fault, False), url
    assert probe(f"tcp://127.0.0.1:{silent}") is None


@pytest.mark.requirement("R2.2")
def test_tls_against_plain_http(web: str) -> None:
    """https:// to a port that speaks plain HTTP is a TLS trouble."""
    found = probe(web.replace("http://", "https://"))
    assert found is not None
    assert found.fault is Fault.TLS


@pytest.mark.requirement("R5.1")
def test_health_command_over_http(web: str, silent: int, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for 2xx, 1 for everything else, with the failing checks for people and JSON for scripts."""
    assert run(["--url", f"{web}/"], {}) == 0
    assert run(["--url", f"{web}/503"], {}) == 1
    assert "fail  a:b  x" in capsys.readouterr().err
    assert run(["--json", "--url", f"{web}/503"], {}) == 1
    assert '"healthy": false' in capsys.readouterr().out
    port = web.rpartition(":")[2]
    assert run(["--scope", "live"], {"CONTAINER_HEALTH_PORT": port, "CONTAINER_HEALTH_HOST": "0.0.0.0"}) == 0
    assert ask(f"http://127.0.0.1:{silent}/", 0.2)[1]["output"] == "no answer within 0.2 s"
