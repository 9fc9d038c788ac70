"""The HTTP surface of a worker: probes, metrics and, on the same port, the intake."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rpa_core.config.models import ContainerConfig
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_core.runtime import flows
from rpa_core.runtime.gates import Gates

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

    from rpa_core.health.intake import StoreIntake

    Pool = ConnectionPool[psycopg.Connection[Any]]


def start(
    config: ContainerConfig, monitor: HealthMonitor, metrics: Metrics, open_pool: Callable[[], Pool], gates: Gates
) -> HttpServer:
    """Start it; raises RpaError if the port cannot be bound. Without a token there is no intake."""
    intake = _intake(config, metrics, open_pool(), gates) if config.intake.token is not None else None
    server = HttpServer(HttpConfig.from_container(config), monitor, metrics, intake)
    server.start()
    return server


def _intake(config: ContainerConfig, metrics: Metrics, pool: Pool, gates: Gates) -> StoreIntake:
    from rpa_core.health.intake import StoreIntake

    return StoreIntake(
        pool,
        frozenset({config.flow_name, *flows.installed()}),
        gate=gates,
        metrics=metrics,
        max_body_bytes=config.intake.max_body_bytes,
        max_line_bytes=config.intake.max_line_bytes,
        chunk_size=config.worker.chunk_size,
        notify=config.worker.notify,
    )
