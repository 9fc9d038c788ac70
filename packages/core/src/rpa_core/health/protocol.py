"""uvicorn's HTTP/1.1 protocol with a deadline on request headers, against clients that never finish them."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


class DeadlinedProtocol(H11Protocol):
    """Closes a connection that has been without a request under way for `header_timeout_s`, and refuses more than
    `max_connections` at once.

    That covers a client that opens a connection and says nothing, one that sends its headers byte by byte, and one that
    goes on sending a body after it has got its answer.
    """

    header_timeout_s = 10.0
    max_connections = 512

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._idle_since = self.loop.time()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _look_again(self) -> None:
        self._watch = self.loop.call_later(self.header_timeout_s / 4, self._look)

    def _look(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn sets None before the first request
        if cycle is not None and not cycle.response_complete:
            self._idle_since = self.loop.time()
        elif self.loop.time() - self._idle_since >= self.header_timeout_s and not self.transport.is_closing():
            self.transport.abort()
            return
        self._look_again()
