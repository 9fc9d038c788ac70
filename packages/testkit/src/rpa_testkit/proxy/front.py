"""What stands between an edge and an HTTP server: it lets requests through, or answers and breaks them by a rule.

An edge knows bytes alone. Here a request is read whole, so that it can be answered with an error, held up, or carried
out upstream without its client ever hearing of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rpa_testkit.proxy.link import reset
from rpa_testkit.proxy.requests import HttpRule, HttpStats, Message, answer, read_request, read_response

_CONNECT_S = 10.0
_LIMIT_BYTES = 1 << 20  # of a line or a header
_FREE = HttpRule()


class Front:
    """In front of one server; `open` listens. All calls from the event loop's thread."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._rule = _FREE
        self._since = 0.0
        self._counts = {"requests": 0, "passed": 0, "answered": 0, "dropped": 0}
        self._listener: asyncio.Server | None = None

    async def open(self) -> tuple[str, int]:
        """Listen on loopback; where."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT_BYTES)
        host, port = self._listener.sockets[0].getsockname()[:2]
        return str(host), int(port)

    def set_rule(self, rule: HttpRule) -> None:
        """In place of the one before; for requests that come from now on."""
        self._rule = rule
        self._since = asyncio.get_running_loop().time()

    def clear(self) -> None:
        """Let everything through."""
        self._rule = _FREE

    def stats(self) -> HttpStats:
        """Since it was opened."""
        return HttpStats(**self._counts)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while (request := await read_request(reader)) is not None:
                self._counts["requests"] += 1
                rule = self._rule_for(request)
                if rule.status:
                    self._counts["answered"] += 1
                    writer.write(answer(rule.status, request))
                    await writer.drain()
                    continue
                if rule.delay_s:
                    await asyncio.sleep(rule.delay_s)
                if behind is None or behind[0].at_eof() or behind[1].is_closing():
                    behind = await self._reach()
                behind[1].write(request.raw)
                await behind[1].drain()
                response = await read_response(behind[0], request)
                if rule.drop:
                    self._counts["dropped"] += 1
                    break
                self._counts["passed"] += 1
                writer.write(response.raw)
                await writer.drain()
                if response.last or request.last:
                    await _end(writer)
                    return
            else:
                await _end(writer)
                return
        except (OSError, EOFError, ValueError, asyncio.CancelledError):
            pass  # either side went away, or speaks no HTTP: what stands in front breaks too
        finally:
            if behind is not None:
                behind[1].close()
            assert isinstance(writer.transport, asyncio.Transport)
            reset(writer.transport)  # nothing happens to one that has ended in order

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_S):
            return await asyncio.open_connection(*self._upstream, limit=_LIMIT_BYTES)

    def _rule_for(self, request: Message) -> HttpRule:
        rule = self._rule
        if rule.path not in request.target:
            return _FREE
        if rule.flap_s:
            passed = asyncio.get_running_loop().time() - self._since
            if int(passed / rule.flap_s) % 2:
                return _FREE
        return rule


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
