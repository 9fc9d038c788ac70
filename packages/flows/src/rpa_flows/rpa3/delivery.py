"""One receiver: POSTs bodies to it and turns its answers into outcomes."""

from __future__ import annotations

import asyncio
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
    """A pool of connections to the receiver; it belongs to the event loop of its first `post`."""

    def __init__(self, settings: Rpa3Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._token = settings.delivery_token.get_secret_value() if settings.delivery_token else ""
        self._slots = asyncio.Semaphore(settings.delivery_concurrency)
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, body: bytes, idempotency_key: str) -> Outcome:
        """Send one body; whatever happens on the way is an outcome."""
        import httpx  # here, because only a worker that delivers should pay for it

        timeout_s = self._settings.delivery_timeout_s
        async with self._slots:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._exchange(body, idempotency_key)
            except TimeoutError:
                return Retry(f"no complete answer from the receiver within {timeout_s:g} s")
            except httpx.HTTPError as error:
                return Retry(f"delivery failed: {type(error).__name__}: {self._redacted(str(error))}")

    async def _exchange(self, body: bytes, idempotency_key: str) -> Outcome:
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        async with self._opened().stream(
            "POST", self._settings.delivery_url, content=body, headers=headers
        ) as response:
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

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            limit = self._settings.delivery_concurrency
            headers = {"Accept-Encoding": "identity", "User-Agent": "rpa-flows"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            self._client = httpx.AsyncClient(
                headers=headers,
                timeout=self._settings.delivery_timeout_s,
                limits=httpx.Limits(max_connections=limit, max_keepalive_connections=limit),
                follow_redirects=False,
            )
            self._loop = asyncio.get_running_loop()
        return self._client

    def _redacted(self, text: str) -> str:
        """A receiver may echo what it was sent."""
        return text.replace(self._token, "[token]") if self._token else text

    def close(self) -> None:
        """Close the connections. The loop of `post` must be idle, and not closed yet."""
        if self._client is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.run_until_complete(self._client.aclose())
        self._client = None
