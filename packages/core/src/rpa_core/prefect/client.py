"""The few calls of Prefect's REST API that reporting needs.

Paths carry the trailing slash that the server wants; redirects are not followed, so that a login page in front of the
server is not taken for it. Proxies and netrc are not read from the environment: the server is a near dependency, and
the address that is probed for health must be the one that is used. Certificates are checked against the system's store.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from rpa_core.version import VERSION

if TYPE_CHECKING:
    import httpx

_MOST_BYTES = 8 * 1024 * 1024  # of an answer; 200 log lines of the longest kind stay below it
_KEEP_ALIVE_S = 4.0  # a second less than the server's own, which would otherwise close it under a request
_MOST_RETRY_AFTER_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer. `body` is what its JSON says, or None; `words` is its text, shortened, for a person."""

    status: int
    body: Any = None
    words: str = ""
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """No answer came. `sent` False: the request cannot have had an effect."""

    why: str
    sent: bool


class PrefectClient:
    """Talks to one server over connections that are kept. Every method may be called from any thread.

    `timeout_s` bounds connecting, each wait for the server, and the reading of the answer as a whole. `on_reply` is
    told of every outcome, for a metric. httpx is loaded by the first request.
    """

    def __init__(
        self,
        api_url: str,
        *,
        api_key: str | None = None,
        auth_string: str | None = None,
        timeout_s: float = 5.0,
        on_reply: Callable[[Reply | Unanswered], object] = lambda _: None,
    ) -> None:
        self._base = api_url.rstrip("/")
        self._timeout_s = timeout_s
        self._on_reply = on_reply
        self._headers = {
            "User-Agent": f"rpa/{VERSION}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if auth_string is not None:
            self._headers["Authorization"] = f"Basic {base64.b64encode(auth_string.encode()).decode()}"
        elif api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._csrf_client = str(uuid.uuid4())
        self._csrf: dict[str, str] = {}
        self._http: httpx.Client | None = None

    def get(self, path: str) -> Reply | Unanswered:
        """GET `path`, such as `/flow_runs/<id>`."""
        return self._told("GET", path, None)

    def post(self, path: str, body: object) -> Reply | Unanswered:
        """POST JSON."""
        return self._told("POST", path, body)

    def patch(self, path: str, body: object) -> Reply | Unanswered:
        """PATCH JSON."""
        return self._told("PATCH", path, body)

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def _told(self, method: str, path: str, body: object) -> Reply | Unanswered:
        answer = self._ask(method, path, body)
        if isinstance(answer, Reply) and answer.status == 403 and "csrf" in answer.words.lower():
            token = self._ask("GET", f"/csrf-token?client={self._csrf_client}", None)
            # A password that is wrong is noticed only here: who lacks a token is asked for that first.
            answer = self._ask(method, path, body) if self._take_token(token) else token
        self._on_reply(answer)
        return answer

    def _take_token(self, answer: Reply | Unanswered) -> bool:
        token = answer.body.get("token") if isinstance(answer, Reply) and isinstance(answer.body, dict) else None
        if not isinstance(token, str):
            return False
        self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self._csrf_client}
        return True

    def _ask(self, method: str, path: str, body: object) -> Reply | Unanswered:
        import httpx

        http = self._open()
        content = None if body is None else orjson.dumps(body)
        deadline = time.monotonic() + self._timeout_s
        try:
            with http.stream(method, self._base + path, content=content, headers=self._csrf) as response:
                received = bytearray()
                for part in response.iter_raw():
                    received += part
                    if len(received) > _MOST_BYTES:
                        return Unanswered(why=f"the answer is longer than {_MOST_BYTES} bytes", sent=True)
                    if time.monotonic() > deadline:
                        return Unanswered(why=f"no whole answer within {self._timeout_s:g} s", sent=True)
                return _reply(response.status_code, bytes(received), response.headers.get("Retry-After"))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Unanswered(why=f"cannot connect ({_said(error)})", sent=False)
        except httpx.TimeoutException:
            return Unanswered(why=f"no answer within {self._timeout_s:g} s", sent=True)
        except httpx.HTTPError as error:
            return Unanswered(why=f"the connection broke ({_said(error)})", sent=True)

    def _open(self) -> httpx.Client:
        if self._http is None:
            import ssl

            import httpx

            self._http = httpx.Client(
                headers=self._headers,
                timeout=self._timeout_s,
                trust_env=False,
                follow_redirects=False,
                verify=ssl.create_default_context() if self._base.startswith("https:") else False,
                limits=httpx.Limits(max_connections=4, keepalive_expiry=_KEEP_ALIVE_S),
            )
        return self._http


def _reply(status: int, received: bytes, retry_after: str | None) -> Reply:
    try:
        body = orjson.loads(received) if received else None
    except orjson.JSONDecodeError:
        body = None
    return Reply(
        status=status, body=body, words=_words(body, received), retry_after_s=_seconds(retry_after, datetime.now(UTC))
    )


def _words(body: Any, received: bytes) -> str:
    """What a server says of a refusal, without the request that it repeats."""
    if isinstance(body, dict):
        said = [str(body[key]) for key in ("exception_message", "detail") if body.get(key)]
        details = body.get("exception_detail")
        given = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
        said += [f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}" for each in given]
        return "; ".join(said)[:1000]
    return received[:200].decode("utf-8", "replace")


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Retry-After as seconds from now, in either of its two forms."""
    if not retry_after:
        return None
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(wait_s, 0.0), _MOST_RETRY_AFTER_S) if wait_s == wait_s else None


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
