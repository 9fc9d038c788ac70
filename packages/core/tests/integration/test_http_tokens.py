"""Who may do what over HTTP: tokens by flow and right, doors that stay closed, and what strangers get to see."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpa_core.config.models import ContainerConfig, HealthCheckConfig
from rpa_core.config.tokens import Grant, grant
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake_api import Accepted, Hold, StatusView, Upload
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_testkit.ports import free_port
from rpa_testkit.waits import until

from .engine import Engine

WRITER, READER, BOTH, OTHER, HEALTH = (
    f"{name}-token-for-tests" for name in ("writer", "reader", "both", "other", "health")
)
GRANTS = (
    grant(WRITER, ["rpa1"], ["write"]),
    grant(READER, ["rpa1"], ["read"]),
    grant(BOTH, ["rpa1"], ["write"]),
    grant(BOTH, ["rpa1"], ["read"]),
    grant(OTHER, ["rpa2"], ["write", "read"]),
    grant(HEALTH, ["rpa1"], ["health"]),
)


class Intake:
    """Takes everything and has no record."""

    def flows(self) -> Collection[str]:
        return ("rpa1", "rpa2", "rpa3")

    def admit(self, flow: str) -> Hold | None:
        return None

    def accept(self, upload: Upload) -> Accepted:
        return Accepted(flow=upload.flow, accepted=len(b"".join(upload.body).splitlines()))

    def status(self, flow: str, key: str) -> StatusView | None:
        return None


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start a surface; returns its port."""
    servers: list[HttpServer] = []

    def start(grants: tuple[Grant, ...] = GRANTS, **settings: Any) -> int:
        config = HttpConfig(port=0, service="rpa1", grants=grants, **settings)
        servers.append(HttpServer(config, HealthMonitor(), None, Intake()))
        servers[-1].start()
        return servers[-1].port

    yield start
    for server in servers:
        server.stop()


def ask(port: int, method: str, path: str, token: str | None = None) -> tuple[int, Any, http.client.HTTPMessage]:
    """Status, body and headers of one request."""
    headers = {"content-type": "application/x-ndjson"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, b'{"n":1}\n' if method == "POST" else None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}"), response.headers


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize(
    ("token", "write", "read"),
    [
        (None, 401, 401),
        ("", 401, 401),
        (WRITER[:-1], 401, 401),
        (WRITER, 202, 403),
        (READER, 403, 404),  # there is no such record
        (BOTH, 202, 404),
        (OTHER, 403, 403),
        (HEALTH, 403, 403),
    ],
)
def test_a_token_does_what_it_was_made_for(serve: Callable[..., int], token: str | None, write: int, read: int) -> None:
    """Not known is 401, known and not allowed is 403; writing, reading and flows are told apart."""
    port = serve()
    status, body, headers = ask(port, "POST", "/records/rpa1", token)
    assert status == write, body
    if write == 403:
        assert 'error="insufficient_scope"' in headers["www-authenticate"]
        assert "CONTAINER_INTAKE_TOKEN" in body["detail"]
    status, body, _ = ask(port, "GET", "/records/rpa1/k", token)
    assert status == read, body
    if read == 403 and token == WRITER:
        assert "CONTAINER_INTAKE_READ_TOKEN" in body["detail"]


@pytest.mark.requirement("R7.3")
def test_a_token_sees_its_own_flows_alone(serve: Callable[..., int]) -> None:
    """A flow that is not there is 404 with the flows of this token; others are not named."""
    port = serve()
    status, body, _ = ask(port, "POST", "/records/nope", WRITER)
    assert (status, body["flows"]) == (404, ["rpa1"])
    status, body, _ = ask(port, "POST", "/records/rpa3", WRITER)
    assert status == 403
    assert "rpa2" not in json.dumps(body)


@pytest.mark.requirement("R7.3")
def test_an_intake_without_tokens_is_closed(serve: Callable[..., int]) -> None:
    """However it came about: no grant admits no one, with or without a header."""
    port = serve(grants=())
    for token in (None, "", " ", "None", WRITER):
        assert ask(port, "POST", "/records/rpa1", token)[0] == 401
        assert ask(port, "GET", "/records/rpa1/k", token)[0] == 401


@pytest.mark.requirement("R5.1", "R7.3")
def test_strangers_see_no_details(serve: Callable[..., int]) -> None:
    """No part, no reason, no Python version; a token for it sees them, one for records does not."""
    port = serve(details=False)
    for token, sees in ((None, False), (WRITER, False), (READER, False), (HEALTH + "x", False), (HEALTH, True)):
        _, body, _ = ask(port, "GET", "/health", token)
        assert ("checks" in body, "output" in body) == (sees, sees)
        assert ("python" in ask(port, "GET", "/version", token)[1]) is sees


@pytest.mark.requirement("R5.1", "R7.3")
@pytest.mark.parametrize(
    ("environment", "host", "given", "shown"),
    [
        ("development", "127.0.0.1", None, True),
        ("test", "::1", None, True),
        ("development", "0.0.0.0", None, False),
        ("staging", "127.0.0.1", None, False),
        ("production", "localhost", None, False),
        ("production", "0.0.0.0", True, True),
        ("development", "localhost", False, False),
    ],
)
def test_details_are_for_a_developer_or_asked_for(environment: Any, host: str, given: bool | None, shown: bool) -> None:
    """Without the setting: only in development and test, on a loopback address."""
    health = HealthCheckConfig(host=host, details=given)
    config = ContainerConfig(flow_name="rpa1", environment=environment, health_check_config=health)
    assert HttpConfig.from_container(config).details is shown


@pytest.mark.requirement("R1.1", "R7.3")
@pytest.mark.parametrize("text", ["", "\n\n", "  ", "short"])
def test_a_worker_does_not_start_with_an_unsound_token(engine: Engine, tmp_path: Path, text: str) -> None:
    """An empty or half-written secret ends it with 78 and the way out; nothing listens."""
    token = tmp_path / "token"
    token.write_text(text)
    worker = engine.run_command(intake_token_file=token)
    assert worker.process.wait(20) == 78
    log = worker.process.log_text()
    assert "CONTAINER_INTAKE_TOKEN " in log
    assert "openssl rand" in log or "write the value" in log
    assert "listening on" not in log


@pytest.mark.requirement("R1.5", "R7.3")
def test_a_token_that_becomes_empty_is_refused_and_the_old_one_stays(engine: Engine, tmp_path: Path) -> None:
    """As `cat new > token` does for a moment, or for good on a full disk: an error, and the door stays closed."""
    token = tmp_path / "token"
    token.write_text(WRITER)
    port = free_port()
    worker = engine.start(intake_token_file=token, reload_interval=0.1, health_port=port)
    worker.wait_started()
    token.write_text("")
    worker.process.wait_for_log("the changed configuration is refused, the old one stays", 20)
    assert "CONTAINER_INTAKE_TOKEN " in worker.process.log_text()
    assert [_post(port, each) for each in (None, "", WRITER)] == [401, 401, 202]
    token.write_text(OTHER)
    until(lambda: _post(port, OTHER) == 202, 20, "the new token", engine.describe)
    assert _post(port, WRITER) == 401


@pytest.mark.requirement("R1.1", "R7.3")
def test_a_token_for_a_flow_that_is_not_installed_is_a_configuration_problem(engine: Engine) -> None:
    """A typing error must not become a flow without a worker."""
    tokens = json.dumps([{"token": WRITER, "flows": ["act", "atc"]}])
    worker = engine.run_command(intake_tokens=tokens)
    assert worker.process.wait(20) == 78
    assert "flows that are not installed here: atc" in worker.process.log_text()


def _post(port: int, token: str | None) -> int:
    try:
        return ask(port, "POST", "/records/act", token)[0]
    except OSError:  # between two runs nothing listens
        return 0
