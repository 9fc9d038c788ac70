"""Every published port refuses what pages of other sites send through a browser on this machine, and works for ours."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import closing

import pytest
from ci.waits import until

from .driver import PATIENCE_S, PORTS, Driver

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.requirement("R7.3")]
OTHER_SITE = "https://evil.example"
PAGES = {  # what answers 200 to ours
    "RPA_HTTP_PORT": "/health",
    "RPA_STATS_PORT": "/stats",
    "RPA_PREFECT_PORT": "/api/health",
    "RPA_PROMETHEUS_PORT": "/api/v1/query?query=up",
    "RPA_ALERTMANAGER_PORT": "/api/v2/status",
    "RPA_RECEIVER_PORT": "/counts",
}


def _ask(
    stack: Driver, variable: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    """Status and headers (names in lower case); `Host` is what is given, or the address."""
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port(variable), timeout=60)) as connection:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize("variable", PORTS)
def test_pages_of_other_sites_are_refused(stack: Driver, variable: str) -> None:
    """By their Origin, whatever the method; by their Host, where a name of theirs resolves to this machine."""
    port = stack.port(variable)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    foreign: list[tuple[str, dict[str, str]]] = [
        ("GET", {"Host": "evil.example"}),
        ("GET", {"Host": f"evil.example:{port}"}),
        ("GET", {"Host": f"localhost.evil.example:{port}"}),
        ("POST", {"Host": "evil.example", "Origin": "http://evil.example", "Content-Type": "text/plain"}),
        ("GET", {"Origin": OTHER_SITE}),
        ("POST", {"Origin": OTHER_SITE, "Content-Type": "text/plain"}),
        ("DELETE", {"Origin": OTHER_SITE}),
        ("OPTIONS", {"Origin": OTHER_SITE, **preflight}),
        ("GET", {"Origin": "null"}),
        ("GET", {"Origin": f"http://127.0.0.1:{port}.evil.example"}),
        ("GET", {"Origin": "http://localhost:1"}),  # a page of another program on this machine
    ]
    for path in {PAGES[variable], "/"}:
        for method, headers in foreign:
            status, answer = _ask(stack, variable, method, path, headers)
            assert status == 403, (method, path, headers)
            assert "access-control-allow-origin" not in answer, (method, path, headers)


@pytest.mark.parametrize("variable", PORTS)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_our_pages_are_served(stack: Driver, variable: str, name: str) -> None:
    """Under both names of this machine, with and without the Origin that a browser adds."""
    ours = f"{name}:{stack.port(variable)}"
    for headers in ({"Host": ours}, {"Host": ours, "Origin": f"http://{ours}"}):
        assert _ask(stack, variable, "GET", PAGES[variable], headers)[0] == 200, headers


def test_prefects_pages_reach_their_server_from_both_names(stack: Driver) -> None:
    """The page asks 127.0.0.1, also where it was opened as localhost: preflight, request, WebSocket."""
    port = stack.port("RPA_PREFECT_PORT")
    origin = {"Origin": f"http://localhost:{port}"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    status, answer = _ask(stack, "RPA_PREFECT_PORT", "OPTIONS", "/api/flow_runs/filter", preflight)
    assert (status, answer["access-control-allow-origin"]) == (200, origin["Origin"])
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    socket = {**upgrade, "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Protocol": "prefect"}
    assert _ask(stack, "RPA_PREFECT_PORT", "GET", "/api/events/out", {**origin, **socket})[0] == 101
    assert _ask(stack, "RPA_PREFECT_PORT", "GET", "/api/events/out", {"Origin": OTHER_SITE, **socket})[0] == 403


def test_prefect_wants_a_token_for_changes_and_the_workers_have_one(stack: Driver) -> None:
    """A request that changes something is refused without it; the workers' runs are there all the same."""
    content = {"Content-Type": "application/json"}
    where = "/api/flow_runs/filter"
    assert _ask(stack, "RPA_PREFECT_PORT", "POST", where, content, b"{}")[0] == 403
    token = stack.get("RPA_PREFECT_PORT", "/api/csrf-token?client=test").json()["token"]
    csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}

    def runs() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", stack.port("RPA_PREFECT_PORT"), timeout=60)
        with closing(connection):
            connection.request("POST", where, b"{}", content | csrf)
            return len(json.loads(connection.getresponse().read()))

    until(lambda: runs() >= 4, timeout_s=PATIENCE_S, what="a run of each worker", every_s=0.5)
