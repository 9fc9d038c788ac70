"""The proxy: what becomes of connections, of an edge whose upstream goes away, and of the proxy itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rpa_testkit
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.proxy.client import Proxy, ProxyError, Rule
from rpa_testkit.waits import until
from rpa_testkit.warden.processes import started

from .upstream import EDGE, Upstream, cut, digest_of, nothing_comes, read, sending

_OWNER = """
import os
from rpa_testkit.proxy.client import Proxy
proxy = Proxy.spawn(seed=1, env=os.environ)
print(f"proxy={proxy.pid}.", flush=True)
import signal
signal.pause()
"""


@pytest.mark.requirement("R3.3")
def test_reset_is_felt_on_both_sides(proxy: Proxy, upstream: Upstream) -> None:
    """Every connection gets an RST; new ones are accepted."""
    client, server = upstream.pair(proxy)
    proxy.reset(EDGE)
    for side in (client, server):
        with pytest.raises(ConnectionResetError):
            side.recv(1)
    assert proxy.stats(EDGE).open == 0
    upstream.pair(proxy)


@pytest.mark.requirement("R3.3")
def test_refused_connections_are_reset_and_counted(proxy: Proxy, upstream: Upstream) -> None:
    """Those that stand are left alone."""
    client, server = upstream.pair(proxy)
    proxy.set_rule(EDGE, Rule(refuse=True))
    with pytest.raises(ConnectionResetError):
        upstream.connect(proxy).recv(1)
    assert proxy.probe(EDGE, 5).outcome == "refused"
    assert proxy.stats(EDGE).refused == 2
    client.sendall(b"still")
    assert read(server, 5) == b"still"


@pytest.mark.requirement("R3.3")
def test_a_reset_passes_through(proxy: Proxy, upstream: Upstream) -> None:
    """Of either side to the other, and it is no orderly end."""
    client, server = upstream.pair(proxy)
    cut(client)
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    client, server = upstream.pair(proxy)
    cut(server)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


@pytest.mark.requirement("R3.3")
def test_a_client_that_resets_in_a_stall_takes_back_what_it_had_sent(proxy: Proxy, upstream: Upstream) -> None:
    """Its kernel would not send it again; the server gets the reset when the stall is over."""
    client, server = upstream.pair(proxy)
    proxy.set_rule(EDGE, Rule(stall=True))
    client.sendall(b"never")
    until(lambda: proxy.stats(EDGE).held_bytes == 5, 20, "the bytes to be held")
    cut(client)
    until(lambda: proxy.stats(EDGE).held_bytes == 0, 20, "the bytes to be dropped")
    assert nothing_comes(server, 0.2)
    proxy.clear(EDGE)
    with pytest.raises(ConnectionResetError):
        server.recv(1)


@pytest.mark.requirement("R3.3")
def test_a_half_open_connection_is_gone_for_the_server_and_silent_for_the_client(
    proxy: Proxy, upstream: Upstream
) -> None:
    """What the client sends goes nowhere; when the edge is cleared, it learns by an RST."""
    client, server = upstream.pair(proxy)
    proxy.half_open(EDGE)
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    client.sendall(b"anybody?")
    assert nothing_comes(client, 0.3)
    until(lambda: proxy.stats(EDGE).half_open == 1, 20, "the upstream's side to be closed")
    assert proxy.stats(EDGE).to_server_bytes == 0
    fresh, fresh_server = upstream.pair(proxy)
    proxy.clear(EDGE)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    fresh.sendall(b"fine")
    assert read(fresh_server, 4) == b"fine"
    until(lambda: proxy.stats(EDGE).open == 1, 20, "the half-open connection to be over")


@pytest.mark.requirement("R3.3")
def test_what_was_sent_before_a_cut_arrives_late(proxy: Proxy, upstream: Upstream) -> None:
    """The client knows at once; the server gets every byte, not before its time, and then the stream's end."""
    client, server = upstream.pair(proxy)
    size = 900_000  # more than the proxy takes in: part of it waits in the kernel
    proxy.set_rule(EDGE, Rule(toward="server", stall=True))
    client.setsockopt(1, 7, 2_000_000)
    with sending(client, "late", size) as digest:
        until(lambda: proxy.stats(EDGE).held_bytes > 200_000, 20, "bytes to be held")
        client.settimeout(30)
    began = time.monotonic()
    held = proxy.cut_late(EDGE, 0.6)
    assert held == size
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    proxy.clear(EDGE)
    assert nothing_comes(server, 0.3)
    assert digest_of(server) == digest
    assert time.monotonic() - began >= 0.6
    stats = proxy.stats(EDGE)
    assert (stats.late_bytes, stats.held_bytes, stats.open) == (size, 0, 0)
    server.close()
    assert upstream.pair(proxy)


@pytest.mark.requirement("R3.3")
def test_an_edge_keeps_its_port_while_postgresql_is_restarted(private_postgres: EmbeddedPostgres) -> None:
    """Down: refused, as without a proxy. Up again: answered, through the same port."""
    with Proxy.spawn(seed=1, env=os.environ) as proxy:
        port = proxy.open_edge(EDGE, ("127.0.0.1", private_postgres.port))
        assert proxy.probe(EDGE, 20).outcome == "answered"
        private_postgres.stop("immediate")
        assert proxy.probe(EDGE, 20).outcome == "refused"
        private_postgres.start()
        assert proxy.probe(EDGE, 20).outcome == "answered"
        assert proxy.probe(EDGE, 20, padding_bytes=7_000).outcome == "answered"
        assert proxy.edges()[EDGE].port == port


@pytest.mark.requirement("R3.3")
def test_errors_say_what_is_wrong(proxy: Proxy, upstream: Upstream) -> None:
    """An unknown edge, one that is open already, an upstream that is nonsense, a proxy that has ended."""
    with pytest.raises(ProxyError, match=r"no edge 'nowhere'; there are worker-1->upstream"):
        proxy.set_rule("nowhere", Rule(stall=True))
    with pytest.raises(ProxyError, match="no edge 'nowhere'"):
        proxy.probe("nowhere", 1)
    with pytest.raises(ProxyError, match="is open already"):
        proxy.open_edge(EDGE, upstream.address)
    with pytest.raises(ValueError, match="padding is 0 to 7000"):
        proxy.probe(EDGE, 1, padding_bytes=7_001)
    with Proxy.spawn(seed=1, env=os.environ) as other:
        joined = Proxy.connect(other.host, other.port)
    with pytest.raises(ProxyError, match=r"stats: the proxy at .* has ended|does not answer"):
        joined.stats(EDGE)
    joined.close()
    with pytest.raises(ProxyError, match="no proxy answers"):
        Proxy.connect(other.host, other.port)


@pytest.mark.requirement("R3.3")
def test_a_second_tester_finds_the_edges(proxy: Proxy, upstream: Upstream) -> None:
    """Whoever connects to a running proxy can use what is there."""
    with Proxy.connect(proxy.host, proxy.port) as other:
        assert other.address(EDGE) == proxy.address(EDGE)
        other.set_rule(EDGE, Rule(refuse=True))
    assert proxy.probe(EDGE, 5).outcome == "refused"


@pytest.mark.requirement("R9.6")
def test_the_proxy_ends_with_its_owner(worker_process: WorkerProcesses) -> None:
    """However the owner ends."""
    owner = worker_process("", argv=[sys.executable, "-c", _OWNER])
    owner.wait_for_log("proxy=", 30.0)
    pid = int(owner.log_text().split("proxy=")[1].split(".")[0])
    assert started(pid) is not None
    owner.kill()
    until(lambda: started(pid) is None, 20.0, f"the proxy {pid} to end")


@pytest.mark.requirement("R9.5")
def test_the_proxy_needs_nothing_but_the_standard_library() -> None:
    """An interpreter without site-packages imports all of it."""
    source = Path(rpa_testkit.__file__).parents[1]
    modules = [f"rpa_testkit.proxy.{path.stem}" for path in (source / "rpa_testkit" / "proxy").glob("*.py")]
    code = f"import sys; sys.path.insert(0, {str(source)!r}); import {', '.join(modules)}; print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(modules) >= 8
