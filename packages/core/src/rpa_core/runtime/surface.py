"""The HTTP surface of a worker: probes, metrics and, on the same port, the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rpa_core.config.models import ContainerConfig
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpConfig, HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_core.runtime import flows
from rpa_core.runtime.gates import Gates

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool


def start(
    config: ContainerConfig,
    monitor: HealthMonitor,
    metrics: Metrics,
    pool: ConnectionPool[psycopg.Connection[Any]],
    gates: Gates,
    flow: str,
) -> HttpServer:
    """Start it; raises RpaError if the port cannot be bound. Without a token there is no intake."""
    from rpa_core.health.intake import StoreIntake

    health, limits = config.health_check_config, config.intake
    intake = None
    if limits.token is not None:
        intake = StoreIntake(
            pool,
            frozenset({flow, *flows.installed()}),
            gate=gates,
            metrics=metrics,
            max_body_bytes=limits.max_body_bytes,
            max_line_bytes=limits.max_line_bytes,
            chunk_size=config.worker.chunk_size,
            notify=config.worker.notify,
        )
    server = HttpServer(
        HttpConfig(
            host=health.host,
            port=health.port,
            service=flow,
            details=health.details,
            token=limits.token.get_secret_value() if limits.token else None,
            max_body_bytes=limits.max_body_bytes,
            max_uploads=limits.max_requests,
            retry_after_s=limits.retry_after_s,
        ),
        monitor,
        metrics,
        intake,
    )
    server.start()
    return server
