"""What stands behind an edge in the tests of the proxy: a listener whose connections the test holds in its hands."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from rpa_testkit.proxy.client import Proxy

EDGE = "worker-1->upstream"
_WAIT_S = 30.0


class Upstream:
    """Listens on loopback; every socket made here has a generous timeout and is closed at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        self._listener.settimeout(_WAIT_S)
        self.address: tuple[str, int] = self._listener.getsockname()

    def accept(self) -> socket.socket:
        """The server's side of the next connection."""
        return self._keep(self._listener.accept()[0])

    def connect(self, proxy: Proxy) -> socket.socket:
        """A client's side, through the edge."""
        return self._keep(socket.create_connection(proxy.address(EDGE), _WAIT_S))

    def pair(self, proxy: Proxy) -> tuple[socket.socket, socket.socket]:
        """Both ends of one connection through the edge."""
        client = self.connect(proxy)
        return client, self.accept()

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(_WAIT_S)
        return self._stack.enter_context(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def read(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        assert part, f"the stream ended after {len(parts)} of {size} bytes"
        parts += part
    return bytes(parts)


def nothing_comes(sock: socket.socket, within_s: float) -> bool:
    """Whether the socket stays open and silent for so long."""
    sock.settimeout(within_s)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(_WAIT_S)
    return False


def cut(sock: socket.socket) -> None:
    """Close with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def blocks(seed: str, size: int) -> Iterator[bytes]:
    """Bytes that nothing but this seed gives, in blocks."""
    number = 0
    while size > 0:
        block = hashlib.shake_128(f"{seed}:{number}".encode()).digest(min(size, 65536))
        yield block
        size -= len(block)
        number += 1


@contextmanager
def sending(sock: socket.socket, seed: str, size: int) -> Iterator[bytes]:
    """Send `blocks` beside the test and end the stream; gives the digest that the receiver must find."""
    digest = hashlib.sha256()
    for block in blocks(seed, size):
        digest.update(block)

    def send() -> None:
        for block in blocks(seed, size):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    yield digest.digest()
    thread.join(_WAIT_S)
    assert not thread.is_alive()


def digest_of(sock: socket.socket) -> bytes:
    """Of everything until the stream's end."""
    digest = hashlib.sha256()
    while data := sock.recv(1 << 18):
        digest.update(data)
    return digest.digest()
