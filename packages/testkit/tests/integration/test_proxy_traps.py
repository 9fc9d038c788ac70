"""Traps: a connection breaks exactly where its own bytes say, once."""

from __future__ import annotations

import socket

import pytest

from rpa_testkit.proxy.client import Proxy, ProxyError, Trap
from rpa_testkit.waits import until

from .upstream import EDGE, Upstream, nothing_comes, read

_SIGNS = ("COPY", "COMMIT")


def _talking(upstream: Upstream, proxy: Proxy) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection that has been used."""
    client, server = upstream.pair(proxy)
    client.sendall(b"?")
    assert read(server, 1) == b"?"
    return client, server


def _struck(sock: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


@pytest.mark.requirement("R3.3")
def test_what_springs_a_trap_before_it_arrives_never_arrives(proxy: Proxy, upstream: Upstream) -> None:
    """What came earlier does; both sides get an RST; the next connection is left alone."""
    proxy.set_trap(EDGE, Trap(signs=_SIGNS, snap="before"))
    client, server = _talking(upstream, proxy)
    client.sendall(b"COPY this")
    assert read(server, 9) == b"COPY this"
    client.sendall(b"COMMIT")
    _struck(client)
    _struck(server)
    assert (proxy.trap(EDGE).sprung, proxy.trap(EDGE).answered) == (True, False)
    client, server = _talking(upstream, proxy)
    client.sendall(b"COPY COMMIT")
    assert read(server, 11) == b"COPY COMMIT"


@pytest.mark.requirement("R3.3")
def test_an_answer_is_thrown_away(proxy: Proxy, upstream: Upstream) -> None:
    """The server has heard and answered; the client hears an RST instead, as late as was asked for."""
    proxy.set_trap(EDGE, Trap(signs=("COMMIT",), snap="after", delay_s=0.3))
    client, server = _talking(upstream, proxy)
    client.sendall(b"COMMIT")
    assert read(server, 6) == b"COMMIT"
    assert not proxy.trap(EDGE).answered
    server.sendall(b"done")
    assert nothing_comes(client, 0.1)
    _struck(client)
    assert proxy.trap(EDGE).answered


@pytest.mark.requirement("R3.3")
def test_a_late_piece_arrives_when_its_sender_is_gone(proxy: Proxy, upstream: Upstream) -> None:
    """And then the stream ends."""
    proxy.set_trap(EDGE, Trap(signs=("COMMIT",), snap="late", delay_s=0.3))
    client, server = _talking(upstream, proxy)
    client.sendall(b"COMMIT")
    _struck(client)
    assert nothing_comes(server, 0.1)
    assert read(server, 6) == b"COMMIT"
    assert server.recv(1) == b""


@pytest.mark.requirement("R3.3")
def test_a_cut_comes_after_the_piece(proxy: Proxy, upstream: Upstream) -> None:
    """Only the nth time; signs of two connections do not add up."""
    proxy.set_trap(EDGE, Trap(signs=_SIGNS, snap="cut", nth=2, delay_s=0.2))
    client, server = _talking(upstream, proxy)
    other, behind = _talking(upstream, proxy)
    other.sendall(b"COPY")
    assert read(behind, 4) == b"COPY"
    client.sendall(b"COMMIT COPY")
    assert read(server, 11) == b"COMMIT COPY"
    client.sendall(b"COMMIT")
    assert read(server, 6) == b"COMMIT"
    assert not proxy.trap(EDGE).sprung
    other.sendall(b"COMMIT")
    assert read(behind, 6) == b"COMMIT"
    until(lambda: proxy.trap(EDGE).sprung, 20, "the trap")
    _struck(other)
    _struck(behind)
    client.sendall(b"on")
    assert read(server, 2) == b"on"


@pytest.mark.requirement("R3.3")
def test_clearing_the_edge_takes_a_trap_away(proxy: Proxy, upstream: Upstream) -> None:
    """And what cannot be meant is refused."""
    proxy.set_trap(EDGE, Trap(signs=("COMMIT",), snap="before"))
    proxy.clear(EDGE)
    client, server = _talking(upstream, proxy)
    client.sendall(b"COMMIT")
    assert read(server, 6) == b"COMMIT"
    with pytest.raises(ValueError, match="no such trap"):
        Trap(signs=(), snap="before")
    with pytest.raises(ProxyError, match="no edge"):
        proxy.set_trap("elsewhere", Trap(signs=("x",), snap="cut"))
