"""One receiver: POSTs bodies to it and turns its answers into outcomes."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from rpa_core.clock import Clock
from rpa_core.processing.outcome import Done, Outcome, Retry, SetAside
from rpa_flows.rpa3.retry_after import retry_after_s
from rpa_flows.rpa3.settings import Rpa3Settings

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({408, 409, 425, 429})
_BODY_EXCERPT_BYTES = 300
_BODY_DRAINED_BYTES = 64 * 1024  # read to the end, the connection serves the next request; but not at any price


class Delivery:
    """Connections to the receiver, one a slot; they belong to the event loop of the first `post`.

    Each has a client of its own. A client's pool looks at all of its connections for every request, twice, which with
    16 of them costs more than the request itself.
    """

    def __init__(self, settings: Rpa3Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._token = settings.delivery_token.get_secret_value() if settings.delivery_token else ""
        self._slots = asyncio.Semaphore(settings.delivery_concurrency)
        self._idle: list[httpx.AsyncClient] = []
        self._clients: list[httpx.AsyncClient] = []
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, body: bytes, idempotency_key: str) -> Outcome:
        """Send one body; whatever happens on the way is an outcome."""
        import httpx  # here, because only a worker that delivers should pay for it

        timeout_s = self._settings.delivery_timeout_s
        async with self._slots:
            client = self._idle.pop() if self._idle else self._new_client()
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._exchange(client, body, idempotency_key)
            except TimeoutError:
                return Retry(f"no complete answer from the receiver within {timeout_s:g} s")
            except httpx.HTTPError as error:
                return Retry(f"delivery failed: {type(error).__name__}: {self._redacted(str(error))}")
            finally:
                self._idle.append(client)

    async def _exchange(self, client: httpx.AsyncClient, body: bytes, idempotency_key: str) -> Outcome:
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        async with client.stream("POST", self._settings.delivery_url, content=body, headers=headers) as response:
            start = bytearray()
            async for piece in response.aiter_raw():
                start += piece
                if len(start) > _BODY_DRAINED_BYTES:
                    break
            status = response.status_code
            if 200 <= status < 300:
                return Done({"status": status})
            said = self._redacted(bytes(start[:_BODY_EXCERPT_BYTES]).decode("utf-8", "replace"))
            if status in _RETRIED or status >= 500:
                wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utcnow())
                return Retry(f"the receiver answered {status}: {said}", wait_s)
            if status < 400:
                return Retry(f"the receiver answered {status}; correct CONTAINER_DELIVERY_URL, no redirect is followed")
            hint = "; check CONTAINER_DELIVERY_TOKEN" if status in (401, 403) else ""
            return SetAside((f"the receiver answered {status}: {said}{hint}",))

    def _new_client(self) -> httpx.AsyncClient:
        import httpx

        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._tls = httpx.create_ssl_context()
        headers = {"Accept-Encoding": "identity", "User-Agent": "rpa-flows"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        client = httpx.AsyncClient(
            headers=headers,
            verify=self._tls or True,
            timeout=self._settings.delivery_timeout_s,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            follow_redirects=False,
        )
        self._clients.append(client)
        return client

    def _redacted(self, text: str) -> str:
        """A receiver may echo what it was sent."""
        return text.replace(self._token, "[token]") if self._token else text

    def close(self) -> None:
        """Close the connections. The loop of `post` must be idle, and not closed yet."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.run_until_complete(self._close())
        self._idle.clear()
        self._clients.clear()

    async def _close(self) -> None:
        for client in self._clients:
            await client.aclose()
