"""The proxy: whatever an edge does to bytes, they arrive complete, in order, and when they should."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rpa_testkit.proxy.client import Proxy, Rule
from rpa_testkit.waits import until

from .upstream import EDGE, Upstream, digest_of, nothing_comes, read, sending

_QUIET_S = 0.3


@pytest.mark.requirement("R3.3")
def test_bytes_pass_both_ways_and_are_counted(proxy: Proxy, upstream: Upstream) -> None:
    """What comes is what was sent; the counters know how much, and how many connections stand."""
    client, server = upstream.pair(proxy)
    client.sendall(b"question")
    assert read(server, 8) == b"question"
    server.sendall(b"the answer")
    assert read(client, 10) == b"the answer"
    stats = proxy.stats(EDGE)
    assert (stats.open, stats.joined, stats.accepted, stats.refused) == (1, 1, 1, 0)
    assert (stats.to_server_bytes, stats.to_client_bytes, stats.held_bytes) == (8, 10, 0)


@pytest.mark.requirement("R3.3")
def test_the_end_of_a_stream_passes_and_the_other_way_stays_open(proxy: Proxy, upstream: Upstream) -> None:
    """A client that has sent all still gets its answer; at the end nothing of the connection is left."""
    client, server = upstream.pair(proxy)
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    assert read(server, 3) == b"all"
    assert server.recv(1) == b""
    server.sendall(b"answer")
    server.close()
    assert read(client, 6) == b"answer"
    assert client.recv(1) == b""
    until(lambda: proxy.stats(EDGE).open == 0, 20, "the connection to be over")


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("toward", ["server", "client"])
def test_a_large_transfer_over_a_slow_line_is_intact(proxy: Proxy, upstream: Upstream, toward: str) -> None:
    """Latency, jitter and a bound on bandwidth: every byte, in order, and no faster than asked."""
    size, rate = 3_000_000, 3_000_000
    proxy.set_rule(EDGE, Rule(latency_s=0.02, jitter_s=0.02, bytes_per_s=rate))
    client, server = upstream.pair(proxy)
    sender, receiver = (client, server) if toward == "server" else (server, client)
    began = time.monotonic()
    with sending(sender, "large", size) as digest:
        assert digest_of(receiver) == digest
    assert time.monotonic() - began >= 0.9 * size / rate


@pytest.mark.requirement("R3.3")
def test_64_connections_at_once_keep_their_bytes_apart(proxy: Proxy, upstream: Upstream) -> None:
    """Each gets its own bytes back, all of them, under jitter."""
    proxy.set_rule(EDGE, Rule(latency_s=0.005, jitter_s=0.02))

    def echo(server: socket.socket) -> None:
        while data := server.recv(65536):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def one(number: int) -> bool:
        with sending(clients[number], f"connection {number}", 200_000) as digest:
            return digest_of(clients[number]) == digest

    clients = [upstream.connect(proxy) for _ in range(64)]
    echoes = [threading.Thread(target=echo, args=(upstream.accept(),)) for _ in clients]
    for thread in echoes:
        thread.start()
    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(one, range(64)))
    for thread in echoes:
        thread.join()
    assert proxy.stats(EDGE).to_client_bytes == 64 * 200_000


@pytest.mark.requirement("R3.3")
def test_what_is_sent_in_a_stall_is_held_and_comes_in_order(proxy: Proxy, upstream: Upstream) -> None:
    """Both ways; and a connection made meanwhile waits and then works."""
    client, server = upstream.pair(proxy)
    proxy.set_rule(EDGE, Rule(stall=True))
    for number in range(10):
        client.sendall(b"%d" % number)
        server.sendall(b"%d" % (9 - number))
    new = upstream.connect(proxy)
    new.sendall(b"new")
    until(lambda: proxy.stats(EDGE).held_bytes == 23, 20, "all bytes to be held", lambda: str(proxy.stats(EDGE)))
    assert nothing_comes(server, _QUIET_S)
    assert nothing_comes(client, 0.01)
    assert nothing_comes(new, 0.01)
    assert (proxy.stats(EDGE).to_server_bytes, proxy.stats(EDGE).joined) == (0, 1)
    proxy.clear(EDGE)
    assert read(server, 10) == b"0123456789"
    assert read(client, 10) == b"9876543210"
    assert read(upstream.accept(), 3) == b"new"
    assert proxy.stats(EDGE).held_bytes == 0


@pytest.mark.requirement("R3.3")
def test_a_stall_does_not_take_in_more_than_two_hosts_would(proxy: Proxy, upstream: Upstream) -> None:
    """The sender blocks; when it is healed, everything is there."""
    client, server = upstream.pair(proxy)
    proxy.set_rule(EDGE, Rule(stall=True))
    with sending(client, "much", 30_000_000) as digest:
        until(lambda: proxy.stats(EDGE).held_bytes > 200_000, 20, "bytes to be held")
        assert nothing_comes(server, _QUIET_S)
        assert proxy.stats(EDGE).held_bytes < 2_000_000
        proxy.clear(EDGE)
        assert digest_of(server) == digest


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("toward", ["server", "client"])
def test_a_stall_one_way_leaves_the_other_open(proxy: Proxy, upstream: Upstream, toward: str) -> None:
    """Bytes flow against it, and none with it until it is gone."""
    client, server = upstream.pair(proxy)
    proxy.set_rule(EDGE, Rule(toward="server" if toward == "server" else "client", stall=True))
    into, against = (client, server) if toward == "server" else (server, client)
    into.sendall(b"held")
    against.sendall(b"flows")
    assert read(into, 5) == b"flows"
    assert nothing_comes(against, _QUIET_S)
    proxy.clear(EDGE)
    assert read(against, 4) == b"held"


@pytest.mark.requirement("R3.3")
def test_latency_is_added_in_each_direction_covered(proxy: Proxy, upstream: Upstream) -> None:
    """One way: once. Both ways: twice. Cleared: not at all, and what was on its way comes at once."""
    client, server = upstream.pair(proxy)

    def round_trip() -> float:
        began = time.monotonic()
        client.sendall(b"?")
        server.sendall(read(server, 1))
        read(client, 1)
        return time.monotonic() - began

    proxy.set_rule(EDGE, Rule(latency_s=2, toward="client"))
    assert 2 <= round_trip() < 4
    proxy.set_rule(EDGE, Rule(latency_s=0.2))
    assert round_trip() >= 0.4
    proxy.set_rule(EDGE, Rule(latency_s=3600))
    client.sendall(b"!")
    until(lambda: proxy.stats(EDGE).held_bytes == 1, 20, "the byte to be on its way")
    proxy.clear(EDGE)
    assert read(server, 1) == b"!"
    assert round_trip() < 20


@pytest.mark.requirement("R3.3")
def test_a_narrow_line_is_shared_fairly(proxy: Proxy, upstream: Upstream) -> None:
    """A few bytes of one connection do not wait for the megabyte that another one has under way."""
    proxy.set_rule(EDGE, Rule(bytes_per_s=20_000))
    greedy, greedy_server = upstream.pair(proxy)
    modest, modest_server = upstream.pair(proxy)
    drained = threading.Thread(target=digest_of, args=(greedy_server,))
    with sending(greedy, "greedy", 1_000_000):
        drained.start()
        until(lambda: proxy.stats(EDGE).held_bytes > 100_000, 20, "the line to be busy")
        began = time.monotonic()
        modest.sendall(b"a few bytes")
        assert read(modest_server, 11) == b"a few bytes"
        assert time.monotonic() - began < 2.5, "what the other one had under way takes five seconds"
        assert proxy.stats(EDGE).held_bytes > 100_000
        proxy.clear(EDGE)
        drained.join()


def _delays(seed: int, upstream: Upstream, connections: int) -> float:
    with Proxy.spawn(seed=seed, env=os.environ) as proxy:
        proxy.open_edge(EDGE, upstream.address)
        proxy.set_rule(EDGE, Rule(jitter_s=0.004))
        for _ in range(connections):
            client, server = upstream.pair(proxy)
            for _ in range(20):
                client.sendall(b"?")
                server.sendall(read(server, 1))
                read(client, 1)
        return proxy.stats(EDGE).delayed_s


@pytest.mark.requirement("R3.3")
def test_the_same_seed_and_traffic_give_the_same_jitter(upstream: Upstream) -> None:
    """To the last bit; another seed gives another, and a further connection leaves the first one's alone."""
    first = _delays(1, upstream, 2)
    assert _delays(1, upstream, 2) == first
    assert _delays(2, upstream, 2) != first
    assert 0 < _delays(1, upstream, 1) < first
