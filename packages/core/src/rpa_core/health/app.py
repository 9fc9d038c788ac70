"""The routes of the HTTP surface, as a Starlette application."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rpa_core.health.model import Report, Scope, as_json
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.problems import http_exception, json_response
from rpa_core.health.uploads import Records
from rpa_core.version import VERSION

if TYPE_CHECKING:
    from rpa_core.health.http_config import HttpConfig
    from rpa_core.observability.metrics import Metrics

Endpoint = Callable[[Request], Awaitable[Response]]

_PATHS: dict[Scope | None, tuple[str, ...]] = {
    None: ("/health",),
    Scope.LIVE: ("/health/live", "/livez", "/live", "/healthz"),
    Scope.READY: ("/health/ready", "/readyz", "/ready"),
    Scope.STARTUP: ("/health/startup", "/startupz"),
}


def build_app(
    config: HttpConfig, monitor: HealthMonitor, metrics: Metrics | None, records: Records | None
) -> Starlette:
    """Everything a container answers; without `records` there is no intake, without `metrics` no /metrics."""
    routes: list[BaseRoute] = [
        Route(path, _health(config, monitor, scope), methods=["GET"], name=path)
        for scope, paths in _PATHS.items()
        for path in paths
    ]
    routes.append(Route("/version", _version(config), methods=["GET"]))
    if metrics is not None:
        routes.append(Route("/metrics", _metrics(metrics), methods=["GET"]))
    if records is not None:
        routes.append(Route("/records/{flow}", records.post, methods=["POST"]))
        routes.append(Route("/records/{flow}/{key:path}", records.get, methods=["GET"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_exception})
    app.router.redirect_slashes = False
    return app


def _health(config: HttpConfig, monitor: HealthMonitor, scope: Scope | None) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        report: Report = monitor.report(scope)
        details = config.details and scope is None
        body = as_json(report, release=config.release, service=config.service, details=details)
        return json_response(body, report.http_status, "application/health+json")

    return endpoint


def _version(config: HttpConfig) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return json_response(
            {
                "name": config.service,
                "version": config.release,
                "rpa_core": VERSION,
                "python": platform.python_version(),
            }
        )

    return endpoint


def _metrics(metrics: Metrics) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = await asyncio.to_thread(encode, metrics.registry)  # a collector may be slow; probes must not wait
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    return endpoint
