"""One receiver: POSTs bodies to it and turns its answers into outcomes.

A breaker tells a receiver that is away from a record that fails. Connections that cannot be made, timeouts, broken
answers and 5xx count as failures; every other answer shows that it is there. While it is away no record pays for it
with a try: TransientError gives the records back as they were, until one of them, sent to have a look, is answered.

Whose fault a failure is can be seen in two cases only. A connection that was never made knows no record: it is the
receiver's. The same record failing again and again, with no other one between, may as well be the record's: it counts
once, and the record uses up its tries.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import TYPE_CHECKING

from rpa_core.clock import Clock
from rpa_core.config.redact import url_secrets
from rpa_core.errors import TransientError
from rpa_core.observability.redaction import Redactor
from rpa_core.processing.outcome import Done, Outcome, Retry, SetAside
from rpa_core.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpen
from rpa_flows.rpa3.retry_after import retry_after_s
from rpa_flows.rpa3.settings import Rpa3Settings

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({408, 409, 425, 429})
_BODY_EXCERPT_BYTES = 300
_BODY_DRAINED_BYTES = 64 * 1024  # read to the end, the connection serves the next request; but not at any price
_CONNECT_SHARE = 0.8  # of the timeout: so that what ends in connecting is known to have sent nothing
_LOOKS_PER_TRY = 10  # a record on which the receiver chokes must not be the one that looks for it for ever


class Delivery:
    """Connections to the receiver, one a slot; they belong to the event loop of the first `post`.

    Each has a client of its own. A client's pool looks at all of its connections for every request, twice, which with
    16 of them costs more than the request itself.
    """

    def __init__(self, settings: Rpa3Settings, clock: Clock, breaker: CircuitBreaker) -> None:
        self._settings = settings
        self._clock = clock
        self._breaker = breaker
        self._failed_last = ""
        self._looks: Counter[str] = Counter()
        self._url = settings.delivery_url.get_secret_value()
        self._token = settings.delivery_token.get_secret_value() if settings.delivery_token else ""
        self._redactor = Redactor(url_secrets(self._url, secret=True))
        self._slots = asyncio.Semaphore(settings.delivery_concurrency)
        self._idle: list[httpx.AsyncClient] = []
        self._clients: list[httpx.AsyncClient] = []
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, body: bytes, idempotency_key: str) -> Outcome:
        """Send one body; the outcome says what came of it.

        Raises TransientError where that says nothing about the record: the receiver is away. CircuitOpen (one of them)
        means that nothing was sent.
        """
        import httpx  # here, because only a worker that delivers should pay for it

        timeout_s = self._settings.delivery_timeout_s
        async with self._slots:
            look = await self._admit(idempotency_key)
            client = self._idle.pop() if self._idle else self._new_client()
            try:
                async with asyncio.timeout(timeout_s):
                    outcome, there = await self._exchange(client, body, idempotency_key)
            except TimeoutError:
                outcome, there = Retry(f"no complete answer from the receiver within {timeout_s:g} s"), False
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._breaker.failed()
                raise TransientError(f"no connection to the receiver: {self._redacted(str(error))}") from error
            except httpx.HTTPError as error:
                outcome = Retry(f"delivery failed: {type(error).__name__}: {self._redacted(str(error))}")
                there = False
            finally:
                self._idle.append(client)
        if there:
            self._breaker.succeeded()
            self._looks.clear()
            return outcome
        return self._failed(outcome, idempotency_key, look)

    async def _admit(self, key: str) -> bool:
        """Whether this request is a look at a receiver that was away; raises CircuitOpen if it must not be made."""
        if self._breaker.state is BreakerState.CLOSED:
            return False
        if key == self._failed_last:
            await asyncio.sleep(0)  # another record shall have the look, if one is waiting for it
        if not self._breaker.allow():
            raise CircuitOpen("the receiver", self._breaker.retry_after_s())
        return self._breaker.state is BreakerState.HALF_OPEN

    def _failed(self, outcome: Outcome, key: str, look: bool) -> Outcome:
        """The record's own failure, as far as that can be told; otherwise TransientError."""
        if look or key != self._failed_last:
            self._breaker.failed()
        self._failed_last = key
        if look:
            self._looks[key] += 1
            if self._looks[key] % _LOOKS_PER_TRY == 0:
                return outcome
        if self._breaker.state is BreakerState.CLOSED:
            return outcome
        reason = outcome.reason if isinstance(outcome, Retry) else ""
        raise TransientError(f"the receiver is away: {reason}")

    async def _exchange(self, client: httpx.AsyncClient, body: bytes, idempotency_key: str) -> tuple[Outcome, bool]:
        """The outcome, and whether the answer shows that the receiver is there."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        async with client.stream("POST", self._url, content=body, headers=headers) as response:
            start = bytearray()
            async for piece in response.aiter_raw():
                start += piece
                if len(start) > _BODY_DRAINED_BYTES:
                    break
            status = response.status_code
            if 200 <= status < 300:
                return Done({"status": status}), True
            said = self._redacted(bytes(start[:_BODY_EXCERPT_BYTES]).decode("utf-8", "replace"))
            if status in _RETRIED or status >= 500:
                wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utcnow())
                return Retry(f"the receiver answered {status}: {said}", wait_s), status < 500
            if status < 400:
                moved = f"the receiver answered {status}; correct CONTAINER_DELIVERY_URL, no redirect is followed"
                return Retry(moved), True
            hint = "; check CONTAINER_DELIVERY_TOKEN" if status in (401, 403) else ""
            return SetAside((f"the receiver answered {status}: {said}{hint}",)), True

    def _new_client(self) -> httpx.AsyncClient:
        import httpx

        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._tls = httpx.create_ssl_context()
        timeout_s = self._settings.delivery_timeout_s
        headers = {"Accept-Encoding": "identity", "User-Agent": "rpa-flows"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        proxy = self._settings.delivery_proxy_url
        client = httpx.AsyncClient(
            headers=headers,
            verify=self._tls or True,
            timeout=httpx.Timeout(timeout_s, connect=timeout_s * _CONNECT_SHARE),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            follow_redirects=False,
            trust_env=False,  # a proxy that a shell's environment names would get the token and every answer
            proxy=proxy.get_secret_value() if proxy is not None else None,
        )
        self._clients.append(client)
        return client

    def _redacted(self, text: str) -> str:
        """A receiver may echo what it was sent: the token, or an address whose path is a credential."""
        return self._redactor.values(text.replace(self._token, "[token]") if self._token else text)

    def close(self) -> None:
        """Close the connections. The loop of `post` must be idle, and not closed yet."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.run_until_complete(self._close())
        self._idle.clear()
        self._clients.clear()

    async def _close(self) -> None:
        for client in self._clients:
            await client.aclose()
