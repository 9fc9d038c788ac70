"""What every driver tells a worker."""

from __future__ import annotations

from collections.abc import Mapping

from rpa_testkit.scenario.model import Service

ROLE = "rpa"
LEDGER = "rpa_db"

# Quick, so that a run sees many takeovers; a service's own `env` wins.
_QUICK = {
    "CONTAINER_LEASE_TTL": "2",
    "CONTAINER_POLL_MAX": "0.2",
    "CONTAINER_RETRY_BASE": "0.05",
    "CONTAINER_RETRY_CAP": "0.5",
    "CONTAINER_HEALTH_INTERVAL": "0.5",
    "CONTAINER_SHUTDOWN_TIMEOUT": "8",
    "CONTAINER_STOP_GRACE": "10",
    "CONTAINER_DATABASE_RPA_DB_CONNECT_TIMEOUT": "2",
}


def lease_ttl_s(service: Service) -> float:
    """How long this service's workers hold a lease without renewing it."""
    return float({**_QUICK, **service.env}["CONTAINER_LEASE_TTL"])


def worker_environment(service: Service, node: str, *, database: str, services: Mapping[str, str]) -> dict[str, str]:
    """CONTAINER_* of one worker; `services` are its dependencies' URLs by name, through its own edges."""
    told = {
        **_QUICK,
        "CONTAINER_DATABASE_RPA_DB_URL": database,
        "CONTAINER_WORKER_ID": node,
        "CONTAINER_ENVIRONMENT": "test",
    }
    for name, url in services.items():
        told[f"CONTAINER_SERVICE_{name.upper()}_URL"] = url
        told[f"CONTAINER_SERVICE_{name.upper()}_REQUIRED"] = "false"
    return {**told, **service.env}
