"""Where rpa3 delivers to in development: counts deliveries, repetitions of them, and alerts.

POST /scores    a delivery, with `Idempotency-Key` and the bearer token; 204
POST /alerts    what Alertmanager sends; 204
GET  /counts    {"deliveries": different keys, "repeats": requests beyond the first of a key, "alerts": names}
GET  /health    {"status": "pass"}

Pages of other sites get 403: they have an Origin of their own, or a Host that is not one of ours.
"""

from __future__ import annotations

import hmac
import json
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn

_TOKEN = Path("/run/secrets/delivery_token")
_HOSTS = ("127.0.0.1", "localhost", "receiver")


class Receiver:
    """An ASGI application; one event loop, so that counting needs no lock."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._seen: Counter[bytes] = Counter()
        self._alerts: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the request to its end, then answer."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, answer = self._answer(scope["method"], scope["path"], dict(scope["headers"]), bytes(body))
        content = b"" if answer is None else json.dumps(answer).encode()
        headers = [] if answer is None else [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, Any]:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if host.partition(":")[0] not in _HOSTS or origin not in ("", f"http://{host}"):
            return 403, {"error": "requests of other sites are refused"}
        match method, path:
            case "POST", "/scores":
                return self._deliver(headers)
            case "POST", "/alerts":
                self._alerts.update(str(alert["labels"]["alertname"]) for alert in json.loads(body)["alerts"])
                return 204, None
            case "GET", "/counts":
                repeats = self._seen.total() - len(self._seen)
                return 200, {"deliveries": len(self._seen), "repeats": repeats, "alerts": dict(self._alerts)}
            case "GET", "/health":
                return 200, {"status": "pass"}
        return 404, {"error": "POST /scores or /alerts, GET /counts or /health"}

    def _deliver(self, headers: dict[bytes, bytes]) -> tuple[int, Any]:
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            return 401, {"error": "the bearer token is not that of docker/secrets/delivery_token"}
        key = headers.get(b"idempotency-key")
        if not key:
            return 400, {"error": "no Idempotency-Key"}
        self._seen[key] += 1
        return 204, None


if __name__ == "__main__":
    uvicorn.run(
        Receiver(_TOKEN.read_text(encoding="utf-8").strip()),
        host="0.0.0.0",  # noqa: S104 - in a container, on networks of its own
        port=8080,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
    )
