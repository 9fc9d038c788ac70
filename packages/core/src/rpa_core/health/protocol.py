"""uvicorn's HTTP/1.1 protocol, made to answer probes whatever other clients do.

What becomes of clients that could keep it from answering:

    all connections taken       a new one is accepted; an older one without an upload under way is closed for it
    no request within a time    closed: silence, headers byte by byte, a body that is still sent after its answer
    an answer not received      closed: requests are pipelined, or a large page is asked for, and nothing is read
    many requests pipelined     closed after some answers, after the first while connections are short
    malformed requests          400; one line a minute in the log, with their number
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_LOG = logging.getLogger("rpa.http")
UPLOAD = "rpa.upload"
"""Key in an ASGI scope: the request is an admitted upload, whose connection is not closed for another one."""
_YOUNG_S = 1.0  # a connection without a request that is younger may be about to send one
_MOST_PIPELINED = 10  # requests that came before the answer to the one before them
_MOST_PIPELINED_BYTES = 64 * 1024
_COMPLAINTS_EVERY_S = 60.0


class Connections:
    """The connections of one server in the order of their arrival, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[DeadlinedProtocol, None] = {}

    def enter(self, connection: DeadlinedProtocol) -> bool:
        """Give a place to a new connection, if need be that of another one; False where uploads have them all."""
        if len(self._open) >= self._most:
            victim = self._victim()
            if victim is None:
                return False
            self.leave(victim)
            victim.transport.abort()
        self._open[connection] = None
        return True

    def leave(self, connection: DeadlinedProtocol) -> None:
        """Its place is free; a second call changes nothing."""
        self._open.pop(connection, None)

    def are_short(self) -> bool:
        """Whether more than half of them are taken."""
        return len(self._open) > self._most // 2

    def _victim(self) -> DeadlinedProtocol | None:
        """The oldest one without a request, or else the oldest without an upload."""
        oldest = None
        for connection in self._open:
            if connection.is_idle():
                return connection
            if oldest is None and not connection.has_upload():
                oldest = connection
        return oldest


class Complaints:
    """Counts malformed requests; the first is logged at once, those after it once a minute."""

    def __init__(self) -> None:
        self._count = 0
        self._peer = ""
        self._timer: asyncio.TimerHandle | None = None

    def note(self, peer: str) -> None:
        """One more; on the event loop."""
        self._count += 1
        self._peer = peer
        if self._timer is None:
            self._report()

    def _report(self) -> None:
        self._timer = None
        if self._count:
            _LOG.warning(
                "%d malformed HTTP request%s refused, the last one from %s",
                self._count,
                "" if self._count == 1 else "s",
                self._peer,
                extra={"event.action": "http.malformed"},
            )
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(_COMPLAINTS_EVERY_S, self._report)


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """uvicorn's logger without its warnings: they come with each malformed request, and are counted here instead."""

    @property
    def level(self) -> int:
        return self.logger.level

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        pass


class DeadlinedProtocol(H11Protocol):
    """One connection; a server makes a subclass with its own settings, which all of its connections share."""

    header_timeout_s = 10.0
    write_timeout_s = 15.0
    places: Connections
    complaints: Complaints

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _Quiet(self.logger)  # type: ignore[assignment]  # has what uvicorn calls
        self._watch: asyncio.TimerHandle | None = None
        self._made_at = self._idle_since = self.loop.time()
        self._unsent_since: float | None = None
        self._pipelined = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if not self.places.enter(self):
            transport.abort()
            return
        self._made_at = self._idle_since = self.loop.time()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        self.places.leave(self)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(data) > _MOST_PIPELINED_BYTES // 2 and len(self.conn.trailing_data[0]) > _MOST_PIPELINED_BYTES:
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        self._pipelined = self._pipelined + 1 if self.conn.trailing_data[0] else 0
        if self._pipelined > (0 if self.places.are_short() else _MOST_PIPELINED):
            self.transport.close()  # what is written is sent; a client that meant it comes again
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.complaints.note(self.client[0] if self.client else "an unknown address")
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # its answer is on the way already
            self.transport.abort()

    def is_idle(self) -> bool:
        """Whether it is without a request, and long enough not to be a client that has only just come."""
        return self._request() is None and self.loop.time() - self._made_at >= _YOUNG_S

    def has_upload(self) -> bool:
        """Whether an admitted upload is under way."""
        request = self._request()
        return request is not None and UPLOAD in request.scope

    def _request(self) -> RequestResponseCycle | None:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn sets None before the first request
        return None if cycle is None or cycle.response_complete else cycle

    def _look_again(self) -> None:
        self._watch = self.loop.call_later(min(self.header_timeout_s, self.write_timeout_s) / 4, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        if self._request() is not None:
            self._idle_since = now
        if self.transport.get_write_buffer_size() == 0:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        silent = now - self._idle_since >= self.header_timeout_s
        deaf = self._unsent_since is not None and now - self._unsent_since >= self.write_timeout_s
        if silent or deaf:
            self.transport.abort()
        else:
            self._look_again()
