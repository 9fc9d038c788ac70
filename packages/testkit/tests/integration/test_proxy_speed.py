"""The proxy must not be what a scenario measures."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from rpa_testkit.proxy.client import Proxy

from .upstream import EDGE

_ROUND_TRIPS = 2_000
_BYTES = 500_000_000
_SERVER = f"""
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if connection.recv(1) == b"e":
        while data := connection.recv(65536):
            connection.sendall(data)
    else:
        block = bytes(1 << 18)
        for _ in range({_BYTES} // len(block)):
            connection.sendall(block)
    connection.close()
"""


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """In a process of its own, so that this one's interpreter is not what is measured."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline())
        process.kill()


def _round_trip_s(address: tuple[str, int]) -> float:
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"e")
        taken = []
        for _ in range(_ROUND_TRIPS):
            began = time.perf_counter()
            client.sendall(b"?" * 100)
            client.recv(1000)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _bytes_per_s(address: tuple[str, int]) -> float:
    buffer = bytearray(1 << 18)
    with socket.create_connection(address) as client:
        began = time.perf_counter()
        client.sendall(b"s")
        total = 0
        while count := client.recv_into(buffer):
            total += count
    return total / (time.perf_counter() - began)


@pytest.mark.alone
@pytest.mark.requirement("R3.3")
def test_the_proxy_is_not_the_bottleneck(
    server: tuple[str, int], record_property: Callable[[str, object], None]
) -> None:
    """At least 300 MB/s on one connection, at most 0.15 ms on a round trip; the best of five."""
    with Proxy.spawn(seed=1, env=os.environ) as proxy:
        proxy.open_edge(EDGE, server)
        through = proxy.address(EDGE)
        added_ms = min(_round_trip_s(through) - _round_trip_s(server) for _ in range(5)) * 1e3
        megabytes_per_s = max(_bytes_per_s(through) for _ in range(5)) / 1e6
    record_property("proxy added ms per round trip", round(added_ms, 4))
    record_property("proxy MB/s", round(megabytes_per_s))
    assert added_ms <= 0.15
    assert megabytes_per_s >= 300
