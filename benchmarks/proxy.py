"""What the testkit's proxy costs a connection, which must not be what a scenario measures: direct, and through it."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Iterator

from benchmarks import figures, upstream
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.waits import until

_EDGE = "worker-1->upstream"
_MB = 1_000_000
_Address = tuple[str, int]


def measure(bench: Bench) -> Iterator[Figure]:
    """Both sides in turn, neither always the later one: a hundred bytes to and fro, then half a gigabyte."""
    trips, size = bench.size(2_000, 100), bench.size(500, 10) * _MB
    trips_ms: tuple[list[float], list[float]] = ([], [])
    mb_per_s: tuple[list[float], list[float]] = ([], [])
    process = bench.start(["-m", "benchmarks.upstream", str(size)])
    try:
        direct = ("127.0.0.1", int(until(process.log_text, 20.0, "the upstream's port")))
        with Proxy.spawn(seed=1, env=os.environ) as proxy:
            proxy.open_edge(_EDGE, direct)
            sides = (direct, proxy.address(_EDGE))
            for number in range(bench.runs):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    trips_ms[side].append(_round_trip_ms(sides[side], trips))
                    mb_per_s[side].append(_bytes_per_s(sides[side]) / _MB)
                bench.say(f"added {trips_ms[1][-1] - trips_ms[0][-1]:.3f} ms, {mb_per_s[1][-1]:,.0f} MB/s")
    finally:
        process.reap()
    yield figures.of(
        "the proxy, added to a round trip",
        [through - beside for beside, through in zip(*trips_ms, strict=True)],
        "ms",
        figures.at_most(0.15),
        note=f"medians of {trips:,}; direct {statistics.median(trips_ms[0]):.3f} ms",
        direct_ms=trips_ms[0],
        through_ms=trips_ms[1],
    )
    yield figures.of(
        "the proxy, one connection",
        mb_per_s[1],
        "MB/s",
        figures.at_least(300),
        note=f"{size / _MB:,.0f} MB; direct {statistics.median(mb_per_s[0]):,.0f} MB/s",
        direct_mb_per_s=mb_per_s[0],
    )


def _round_trip_ms(address: _Address, trips: int) -> float:
    """The median of so many."""
    taken_ms = []
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(upstream.ECHO)
        for _ in range(trips):
            begun = time.perf_counter()
            client.sendall(b"?" * 100)
            client.recv(1000)
            taken_ms.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken_ms)


def _bytes_per_s(address: _Address) -> float:
    buffer, total = bytearray(1 << 18), 0
    with socket.create_connection(address) as client:
        begun = time.perf_counter()
        client.sendall(upstream.SEND)
        while count := client.recv_into(buffer):
            total += count
        return total / (time.perf_counter() - begun)
