"""The health monitor of a configuration: its databases and services are checked, and none decides liveness."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rpa_core.config.models import ContainerConfig, ServiceDependency
from rpa_core.health.checks import database_check, service_check
from rpa_core.health.monitor import HealthMonitor
from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.services.diagnosis import Diagnosis
from rpa_core.services.endpoint import probe_service
from rpa_core.services.guarding import SERVICE_POLICY, guarded
from rpa_core.store.database import Database

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

    Pool = ConnectionPool[psycopg.Connection[Any]]


def build_monitor(
    config: ContainerConfig,
    *,
    metrics: Metrics | None = None,
    pool_of: Callable[[str], Pool] | None = None,
    breaker_of: Callable[[str], CircuitBreaker] | None = None,
) -> HealthMonitor:
    """A monitor with a check for each configured database and service; the caller starts and stops it.

    `pool_of` gives the pool of a database by name; without it each check opens a pool of one connection. `breaker_of`
    gives the breaker of a service by name; without it each has one of its own, so that a dead one is not asked at full
    rate.
    """
    health = config.health_check_config
    monitor = HealthMonitor(heartbeat_max_age_s=health.heartbeat_max_age_s, ttl_s=health.interval_s, metrics=metrics)
    for name, database in config.database_connections.items():
        if pool_of is not None:
            pool = pool_of(name)
        else:
            own = Database(name, database.dsn(), connect_timeout_s=database.connection_timeout)
            pool = own.pool(max_size=1, application_name=f"rpa health {name}")
            monitor.at_stop(pool.close)
        monitor.register(database_check(name, pool, query=database.health_check_query, timeout_s=health.timeout_s))
    for service in config.service_dependencies:
        breaker = (breaker_of or _own_breaker)(service.service_name)
        monitor.register(service_check(service, probe=_paced(service, breaker)))
    return monitor


def _paced(service: ServiceDependency, breaker: CircuitBreaker) -> Callable[[ServiceDependency], Diagnosis | None]:
    look = guarded(partial(probe_service, service), breaker)
    return lambda _: look()


def _own_breaker(name: str) -> CircuitBreaker:
    return CircuitBreaker(name, SERVICE_POLICY)
