"""The routes of the HTTP surface, as an ASGI application."""

from __future__ import annotations

import asyncio
import platform
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rpa_core.health.admission import bearer
from rpa_core.health.model import Report, Scope, as_json
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.problems import http_exception, json_response, problem
from rpa_core.health.uploads import Records
from rpa_core.version import VERSION

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

    from rpa_core.health.http_config import HttpConfig
    from rpa_core.observability.metrics import Metrics

Endpoint = Callable[[Request], Awaitable[Response]]

_PATHS: dict[Scope | None, tuple[str, ...]] = {
    None: ("/health",),
    Scope.LIVE: ("/health/live", "/livez", "/live", "/healthz"),
    Scope.READY: ("/health/ready", "/readyz", "/ready"),
    Scope.STARTUP: ("/health/startup", "/startupz"),
}
_RECORDS = "/records/"
_OTHER_METHODS = ["POST", "PUT", "PATCH", "DELETE"]
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_MOST_HEADERS = 100
_HEADER_BYTES = 32 * 1024
_DUTY = 9.0  # a scrape may cost a tenth of the time: after one that took t, the next begins 9 t later
_LONGEST_REST_S = 1.0


def build_app(config: HttpConfig, monitor: HealthMonitor, metrics: Metrics | None, records: Records | None) -> ASGIApp:
    """Everything a container answers; without `records` there is no intake, without `metrics` no /metrics."""
    routes: list[BaseRoute] = [
        Route(path, _health(config, monitor, scope), methods=["GET"], name=path)
        for scope, paths in _PATHS.items()
        for path in paths
    ]
    routes.append(Route("/version", _version(config), methods=["GET"]))
    if metrics is not None:
        routes.append(Route("/metrics", _MetricsPage(metrics.registry).get, methods=["GET"]))
    if records is not None:
        routes.append(Route("/records/{flow}", records.post, methods=["POST"]))
        routes.append(Route("/records/{flow}", _misdirected, methods=["GET", "PUT", "PATCH", "DELETE"]))
        routes.append(Route("/records/{flow}/{key:path}", records.get, methods=["GET"]))
        routes.append(Route("/records/{flow}/{key:path}", _misdirected, methods=_OTHER_METHODS))
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_exception})
    app.router.redirect_slashes = False
    return _Front(app)


class _Front:
    """What holds for every request: one way to read its target, and no more headers than a client needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := _refusal(scope["headers"])) is not None:
            await refusal(scope, receive, send)
            return
        path = scope["path"]
        if not path.startswith("/"):  # as proxies ask: GET http://host:port/path
            path = _ABSOLUTE.sub("", path, count=1) or "/"
            scope["raw_path"] = _ABSOLUTE.sub("", scope["raw_path"].decode("ascii"), count=1).encode() or b"/"
        if not path.startswith(_RECORDS):
            path = path.rstrip("/") or "/"
        scope["path"] = path
        await self._app(scope, receive, send)


def _refusal(headers: list[tuple[bytes, bytes]]) -> Response | None:
    close = {"connection": "close"}
    if len(headers) > _MOST_HEADERS or sum(len(name) + len(text) for name, text in headers) > _HEADER_BYTES:
        detail = f"more than {_MOST_HEADERS} header fields, or than {_HEADER_BYTES} bytes in them"
        return problem(431, "too-many-headers", detail, headers=close)
    names = {name for name, _ in headers}
    if {b"transfer-encoding", b"content-length"} <= names:  # RFC 9112, 6.1: perhaps an attempt to smuggle a request
        detail = "Transfer-Encoding and Content-Length in one request; send one of them"
        return problem(400, "ambiguous-length", detail, headers=close)
    return None


def _health(config: HttpConfig, monitor: HealthMonitor, scope: Scope | None) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        report: Report = monitor.report(scope)
        details = scope is None and _is_trusted(config, request)
        body = as_json(report, release=config.release, service=config.service, details=details)
        return json_response(body, report.http_status, "application/health+json")

    return endpoint


def _version(config: HttpConfig) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        body = {"name": config.service, "version": config.release, "rpa_core": VERSION}
        if _is_trusted(config, request):
            body["python"] = platform.python_version()
        return json_response(body)

    return endpoint


def _is_trusted(config: HttpConfig, request: Request) -> bool:
    """Whether the client may see what a stranger may not: everyone may by setting, or it has a token for it."""
    return config.details or any(grant.permits("health", config.service) for grant in bearer(request, config.grants))


async def _misdirected(request: Request) -> Response:
    """405 with the way to what was probably meant."""
    flow = request.path_params["flow"][:80]
    post, get = f"POST /records/{flow}", f"GET /records/{flow}/KEY"
    if "key" in request.path_params:
        detail = f"{post}, with nothing behind it, takes records in (?key=FIELD names their keys); {get} shows one"
        return problem(405, "method-not-allowed", detail, headers={"allow": "GET, HEAD"})
    return problem(405, "method-not-allowed", f"{post} takes records in; {get} shows one", headers={"allow": "POST"})


class _MetricsPage:
    """/metrics, one encoding at a time: requests that come meanwhile share the next one, however many they are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._due: dict[str, asyncio.Task[bytes]] = {}  # by content type; those that have not begun

    async def get(self, request: Request) -> Response:
        """The samples as they are, in the format that the client asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        if content_type not in self._due:
            self._due[content_type] = asyncio.create_task(self._encode(encode, content_type))
        text = await asyncio.shield(self._due[content_type])
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    async def _encode(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> bytes:
        now = asyncio.get_running_loop().time
        async with self._turn:
            try:
                await asyncio.sleep(max(0.0, self._not_before - now()))
            finally:
                del self._due[content_type]
            began = now()
            try:
                # In a thread: a collector may be slow, and probes must not wait.
                return await asyncio.to_thread(encode, self._registry)
            finally:
                self._not_before = now() + min(_LONGEST_REST_S, _DUTY * (now() - began))
