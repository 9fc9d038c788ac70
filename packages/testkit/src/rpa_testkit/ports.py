"""Free ports on loopback that stay ours."""

from __future__ import annotations

import random
import secrets
import socket
from pathlib import Path

HOST = "127.0.0.1"


class NoPortError(RuntimeError):
    """No free port was found."""


def free_port() -> int:
    """A free port below the range that the kernel hands out.

    While a server is down nobody else can be given its port, and a client that keeps reconnecting cannot be
    connected to itself (a TCP self-connection needs the port as its own source port).
    """
    lowest_ephemeral = 32768
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if limits.exists():
        lowest_ephemeral = int(limits.read_text().split()[0])
    chooser = random.Random(secrets.randbits(64))  # noqa: S311 - not a secret; seeded apart from the tests' seed
    ports = range(15000, lowest_ephemeral) if lowest_ephemeral > 15500 else range(1024, 65536)
    for port in chooser.sample(ports, 50):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise NoPortError(f"no free port on {HOST} among 50 tried")
