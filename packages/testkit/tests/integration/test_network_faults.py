"""Faults of an edge: each is seen to take effect and to be gone, and none is believed that was only asked for."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest

from rpa_testkit.databases import ExternalPostgres
from rpa_testkit.drivers.protocol import System
from rpa_testkit.faults.lease import Injection
from rpa_testkit.faults.network import KINDS
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.proxy.client import EdgeStats, Proxy, Rule
from rpa_testkit.scenario.plan import Event
from rpa_testkit.waits import until
from rpa_testkit.warden.execution import carry_out

PARAMS: Mapping[str, Mapping[str, float]] = {
    "latency": {"latency_s": 0.1, "jitter_s": 0.05},
    "bandwidth": {"bytes_per_s": 20_000.0},
    "late": {"delay_s": 0.3},
}
EDGE = "worker-1->postgres"
NAMES = [kind.name for kind in KINDS]


class LyingProxy:
    """A proxy that leaves out, or does in another way, what it is asked, and says that it is done."""

    def __init__(self, proxy: Proxy, **instead: Any) -> None:
        self._proxy = proxy
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return self._instead.get(name) or getattr(self._proxy, name)


class Client:
    """Works through the edge without end, as a worker does: every failure is followed by a new connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.done = 0

    def _work(self) -> None:
        host, port = self._address
        while not self._stop.wait(0.01):
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(
                    host=host, port=port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=2
                ) as connection,
            ):
                while not self._stop.wait(0.01):
                    connection.execute("SELECT 1")
                    self.done += 1

    def __enter__(self) -> Client:
        self._thread.start()
        until(lambda: self.done, 20, "the client to work")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()


@pytest.fixture
def edge(postgres_server: EmbeddedPostgres | ExternalPostgres) -> Iterator[Proxy]:
    """A proxy before the server, and a client that works through it."""
    server = urlsplit(postgres_server.dsn())
    with Proxy.spawn(seed=1, env=os.environ) as proxy:
        proxy.open_edge(EDGE, (str(server.hostname), server.port or 5432))
        with Client(proxy.address(EDGE)):
            yield proxy
            proxy.clear(EDGE)


def fault(name: str, proxy: Any, edge: str = EDGE) -> Injection:
    """Of this kind, on the edge."""
    kind = next(kind for kind in KINDS if kind.name == name)
    params = {**kind.params, **PARAMS.get(name, {})}
    event = Event(id=1, kind=name, target=edge, hold_s=1.0, params=params)
    return kind.make(cast("System", SimpleNamespace(proxy=proxy)), event, params)


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_takes_effect_and_is_healed(edge: Proxy, name: str) -> None:
    """Both are seen through the edge, and the client works again."""
    injection = fault(name, edge)
    injection.inject()
    seen = until(injection.verify, 30, f"{name} to take effect", lambda: str(edge.stats(EDGE)))
    assert seen
    injection.heal()
    assert until(injection.verify_healed, 30, f"{name} to be healed", lambda: str(edge.stats(EDGE)))
    before = edge.stats(EDGE).to_client_bytes
    until(lambda: edge.stats(EDGE).to_client_bytes > before + 1000, 30, "the client to work again")


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_that_was_not_injected_is_not_verified(edge: Proxy, name: str) -> None:
    """The proxy takes every request and does nothing: no look at the edge finds an effect."""

    def nothing(*_: object) -> int:
        return 100

    lies = dict.fromkeys(["cut_late"] if name == "late" else ["set_rule", "reset", "half_open"], nothing)
    injection = fault(name, LyingProxy(edge, **lies))
    injection.inject()
    assert [injection.verify() for _ in range(3)] == [None] * 3
    injection.heal()


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("name", ["partition", "latency", "bandwidth", "reset", "half-open"])
def test_a_fault_that_was_not_healed_is_not_verified_as_healed(edge: Proxy, name: str) -> None:
    """The proxy says that it has cleared the edge and has not."""
    injection = fault(name, LyingProxy(edge, clear=lambda *_: None))
    injection.inject()
    until(injection.verify, 30, f"{name} to take effect")
    injection.heal()
    assert injection.verify_healed() is None


def _toward(proxy: Proxy, toward: Any) -> Any:
    return lambda edge, rule: proxy.set_rule(edge, Rule(toward=toward, stall=True))


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    ("name", "done"), [("partition", "client"), ("partition-to-client", "both"), ("partition-to-client", "server")]
)
def test_a_partition_the_wrong_way_is_not_verified(edge: Proxy, name: str, done: str) -> None:
    """What is to be closed is closed, what is to be open is open."""
    injection = fault(name, LyingProxy(edge, set_rule=_toward(edge, done)))
    injection.inject()
    assert [injection.verify() for _ in range(3)] == [None] * 3


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("left_out", ["set_rule", "reset"])
def test_half_a_reset_is_not_verified(edge: Proxy, left_out: str) -> None:
    """Connections that stand are reset and new ones refused, not one of the two."""
    injection = fault("reset", LyingProxy(edge, **{left_out: lambda *_: None}))
    injection.inject()
    assert [injection.verify() for _ in range(3)] == [None] * 3
    injection.heal()


@pytest.mark.requirement("R3.3")
def test_still_counters_do_not_make_a_partition(edge: Proxy) -> None:
    """An answer to a new connection says that there is none, whatever the counters say."""
    still = edge.stats(EDGE)
    injection = fault("partition", LyingProxy(edge, set_rule=lambda *_: None, stats=lambda _: still))
    injection.inject()
    assert injection.verify() is None


@pytest.mark.requirement("R3.3")
def test_half_the_latency_is_not_enough(edge: Proxy) -> None:
    """Four fifths of what was asked must be seen."""

    def half(name: str, rule: Rule) -> None:
        edge.set_rule(name, Rule(latency_s=rule.latency_s / 2))

    injection = fault("latency", LyingProxy(edge, set_rule=half))
    injection.inject()
    # A busy machine may be slow by itself now and then, but not always.
    assert None in [injection.verify() for _ in range(5)]


@pytest.mark.requirement("R3.3")
def test_half_open_needs_somebody_elses_connection(edge: Proxy) -> None:
    """The tester's own does not count."""
    stats = edge.stats(EDGE)

    def alone(_: str) -> EdgeStats:
        return EdgeStats(
            open=1, accepted=1, refused=0, to_server_bytes=0, to_client_bytes=0, held_bytes=0, joined=1, half_open=1
        )

    assert stats.open >= 1
    injection = fault("half-open", LyingProxy(edge, stats=alone))
    injection.inject()
    assert injection.verify() is None
    injection.heal()


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("silent_sessions", [0, 1])
def test_a_late_delivery_waits_for_a_worker_that_has_to_come_back(
    postgres_server: EmbeddedPostgres | ExternalPostgres, silent_sessions: int
) -> None:
    """No session that says something stands when it begins; while bytes are held nobody could get one."""
    server = urlsplit(postgres_server.dsn())
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy.spawn(seed=1, env=os.environ))
        proxy.open_edge(EDGE, (str(server.hostname), server.port or 5432))
        host, port = proxy.address(EDGE)
        for _ in range(silent_sessions):
            stack.enter_context(psycopg.connect(postgres_server.dsn(), host=host, port=port))
        client = Client((host, port))
        comes = threading.Timer(0.3, client.__enter__)
        comes.start()
        injection = fault("late", proxy)
        injection.inject()
        comes.join()
        try:
            assert until(injection.verify, 30, "late to take effect", lambda: str(proxy.stats(EDGE)))
            injection.heal()
        finally:
            client.__exit__()


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("name", NAMES)
def test_the_warden_can_take_it_back(edge: Proxy, name: str) -> None:
    """The undo alone heals the edge, from whatever process."""
    injection = fault(name, edge)
    undo = injection.undo()
    injection.inject()
    until(injection.verify, 30, f"{name} to take effect")
    for each in undo:
        carry_out(each)
    assert until(injection.verify_healed, 30, f"{name} to be healed")
    injection.heal()


@pytest.mark.requirement("R3.3")
def test_an_edge_that_does_not_answer_before_the_fault_is_an_error(edge: Proxy) -> None:
    """Nobody could tell the fault from what was there already."""
    edge.set_rule(EDGE, Rule(refuse=True))
    with pytest.raises(RuntimeError, match=r"worker-1->postgres was refused before anything was done"):
        fault("partition", edge).inject()


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        pass


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("name", ["partition", "partition-to-client", "latency", "bandwidth", "reset"])
def test_an_edge_to_an_http_service(name: str) -> None:
    """The probe speaks HTTP there."""
    target = "worker-1->prefect"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server, Proxy.spawn(seed=1, env=os.environ) as proxy:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        proxy.open_edge(target, ("127.0.0.1", server.server_port), protocol="http")
        injection = fault(name, proxy, target)
        injection.inject()
        until(injection.verify, 30, f"{name} to take effect", lambda: str(proxy.stats(target)))
        injection.heal()
        assert until(injection.verify_healed, 30, f"{name} to be healed")
        server.shutdown()
        serving.join()
