"""Where rpa3 delivers to: counts what arrives, and what arrives again under the same idempotency key."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

import uvicorn


class Receiver:
    """An HTTP server on loopback, in a thread of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._seen: Counter[bytes] = Counter()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._receive, interface="asgi3", lifespan="off", log_config=None, access_log=False, ws="none"
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/scores"

    def counts(self) -> tuple[int, int]:
        """(different deliveries, repeated ones)."""
        with self._guard:
            return len(self._seen), sum(self._seen.values()) - len(self._seen)

    async def _receive(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application: 204 for everything, once its body is in."""
        while (await receive()).get("more_body"):
            pass
        key = next(value for name, value in scope["headers"] if name == b"idempotency-key")
        with self._guard:
            self._seen[key] += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
