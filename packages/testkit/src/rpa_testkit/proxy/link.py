"""One connection through an edge: the client's socket, the upstream's, and a pipe each way.

waiting    the client is connected, the upstream is not yet (it is not asked while the way to it is stalled)
joined     both are
half-open  the upstream's side was taken away; the client's stays and nothing answers it
late       the client was cut off; what it had sent is on its way to the upstream
over       both are gone
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from rpa_testkit.proxy.lane import Lane
from rpa_testkit.proxy.pipe import Item, Pipe

_CONNECT_S = 10.0
_LATE_END_S = 30.0  # an upstream that does not end after a late delivery is cut off
_READ_BYTES = 256 << 10


class Owner(Protocol):
    """The edge, as its connections see it."""

    upstream: tuple[str, int]
    to_server: Lane
    to_client: Lane

    def draws(self, number: int, toward: str) -> random.Random:
        """The generator of a connection's jitter in one direction."""
        ...

    def turned_away(self) -> None:
        """Count a connection whose upstream could not be reached."""
        ...

    def forget(self, link: Link) -> None:
        """It is over; may be told twice."""
        ...


class Link:
    """Made when a client has connected; lives in the event loop's thread."""

    def __init__(self, owner: Owner, number: int) -> None:
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.half_open = False
        self.to_server = Pipe(owner.to_server, lambda: owner.draws(number, "server"), self._end_server)
        self.to_client = Pipe(owner.to_client, lambda: owner.draws(number, "client"), self._end_client)
        self._owner = owner
        self._late = False
        self.connecting: asyncio.Task[None] | None = None

    def begin(self, client: asyncio.Transport) -> None:
        """The client is there."""
        self.client = client
        self.to_server.source = client
        self.to_client.attach(client)
        self.pump()

    def pump(self) -> None:
        """Go on under the rule that holds now."""
        if self.connecting is None and not self.to_server.lane.rule.stall:
            self.connecting = asyncio.create_task(self._connect())
        self.to_server.pump()
        self.to_client.pump()

    def reset(self) -> None:
        """RST to both sides."""
        reset(self.client)
        reset(self.server)
        self._over()

    def open_half(self) -> None:
        """RST to the upstream; the client hears nothing any more. Nothing happens to one that has not both sides."""
        if self.server is None or self.client is None:
            return
        self.half_open = True
        self.to_server.end()
        self.to_client.end()
        reset(self.server)

    def muffle(self, on_answer: Callable[[], None]) -> None:
        """Throw away what the upstream says from now on; `on_answer` is told each time that it has said something."""
        if self.server is not None:
            protocol = self.server.get_protocol()
            assert isinstance(protocol, ServerSide)
            protocol.mute(on_answer)

    def close_half(self) -> None:
        """RST to a half-open client, as the kernel of a host that has come back answers what it knows nothing of."""
        if self.half_open:
            reset(self.client)

    def cut_late(self, delay_s: float, last: bytes = b"") -> int:
        """RST to the client now; what it had sent, and `last`, goes to the upstream in `delay_s`, and then the end.

        Returns how many bytes that are. Without an upstream there is nobody to deliver them to.
        """
        if self.client is None or self.half_open:
            return 0
        if self.server is None:
            self.reset()
            return 0
        self._late = True
        self.to_server.delay_all(delay_s)
        if last:
            self.to_server.feed_unseen(last)
        for data in _unread(self.client):
            self.to_server.feed(data)
        self.to_server.feed_eof()
        self.to_client.end()
        reset(self.client)
        asyncio.get_running_loop().call_later(delay_s + _LATE_END_S, self.reset)
        return self.to_server.held_bytes

    def client_eof(self) -> None:
        """The client sends no more."""
        if self.half_open and self.client is not None:
            self.client.close()
        else:
            self.to_server.feed_eof()

    def server_eof(self) -> None:
        """The upstream sends no more."""
        if self.client is None and self.server is not None:
            self.server.close()
        else:
            self.to_client.feed_eof()

    def client_lost(self, error: Exception | None) -> None:
        """The client's socket is closed: by us, or by an error such as its RST."""
        self.client = None
        self.to_client.end()
        if self.server is None:
            self._over()
        elif not self._late:
            _pass_on(error, self.to_server, self.server)

    def server_lost(self, error: Exception | None) -> None:
        """The same for the upstream's."""
        self.server = None
        self.to_server.end()
        if self.client is None:
            self._over()
        elif not self.half_open:
            _pass_on(error, self.to_client, self.client)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await loop.create_connection(lambda: ServerSide(self), *self._owner.upstream)
        except OSError:  # TimeoutError is one
            if self.client is not None:
                self._owner.turned_away()
                self.reset()

    def joined(self, server: asyncio.Transport) -> None:
        """The upstream is connected."""
        self.server = server
        self.to_client.source = server
        if self.client is None:
            reset(server)
        else:
            self.to_server.attach(server)

    def _end_server(self, item: Item) -> None:
        self._end(self.server, item)

    def _end_client(self, item: Item) -> None:
        self._end(self.client, item)

    def _end(self, transport: asyncio.Transport | None, item: Item) -> None:
        if item is None:
            reset(transport)
        elif transport is not None and not transport.is_closing():
            send_end(transport)
        if self.to_server.ended and self.to_client.ended and not self._late:
            for each in (self.client, self.server):
                if each is not None:
                    each.close()

    def _over(self) -> None:
        self.to_server.end()
        self.to_client.end()
        self._owner.forget(self)  # an upstream that is just being connected is reset when it is there


def send_end(transport: asyncio.Transport) -> None:
    """Say that no more will come. A peer that is gone, which nobody has noticed yet, needs no end."""
    try:
        transport.write_eof()
    except OSError:
        reset(transport)


class ClientSide(asyncio.Protocol):
    """The socket that was accepted. `admit` decides what becomes of it: a link, or None for none."""

    def __init__(self, admit: Callable[[], Link | None]) -> None:
        self._admit = admit
        self._link: Link | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        link = self._admit()
        if link is None:
            reset(transport)
            return
        self._link = link
        self.data_received = link.to_server.feed  # type: ignore[method-assign]  # one call less for every piece
        link.begin(transport)

    def eof_received(self) -> bool:
        """It has sent all; it may still receive."""
        if self._link is not None:
            self._link.client_eof()
        return True

    def pause_writing(self) -> None:
        """It does not read as fast as the upstream writes."""
        if self._link is not None:
            self._link.to_client.block(True)

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._link is not None:
            self._link.to_client.block(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._link is not None:
            self._link.client_lost(exc)


class ServerSide(asyncio.Protocol):
    """The socket to the upstream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.data_received = link.to_client.feed  # type: ignore[method-assign]  # one call less for every piece

    def mute(self, on_answer: Callable[[], None]) -> None:
        """Throw away what it says, and tell that it says something."""

        def received(data: bytes) -> None:
            on_answer()

        self.data_received = received  # type: ignore[method-assign]  # in place of the pipe's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The upstream has accepted."""
        assert isinstance(transport, asyncio.Transport)
        self._link.joined(transport)

    def eof_received(self) -> bool:
        """It has sent all."""
        self._link.server_eof()
        return True

    def pause_writing(self) -> None:
        """It does not read as fast as the client writes."""
        self._link.to_server.block(True)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._link.to_server.block(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._link.server_lost(exc)


def reset(transport: asyncio.Transport | None) -> None:
    """Close with an RST; what was not sent is lost."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _pass_on(error: Exception | None, pipe: Pipe, other: asyncio.Transport) -> None:
    if error is None or pipe.ended:
        reset(other) if not other.is_closing() else None
    else:
        pipe.feed_reset()


def _unread(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the kernel has received and nobody has read yet."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock:
        sock.setblocking(False)
        while True:
            try:
                data = sock.recv(_READ_BYTES)
            except OSError:
                return
            if not data:
                return
            yield data
