"""What every driver tells a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rpa_testkit.scenario.model import ALERTMANAGER, PREFECT, Dependency, Service

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
    "CONTAINER_PREFECT_PROGRESS": "2",
    "CONTAINER_RELOAD_INTERVAL": "0.5",
    "CONTAINER_DISK_INTERVAL": "0.5",
    "CONTAINER_CRASH_BACKOFF_MAX": "0",  # crashes are meant here, and a worker that waits meets no further fault
}


def lease_ttl_s(service: Service) -> float:
    """How long this service's workers hold a lease without renewing it."""
    return float({**_QUICK, **service.env}["CONTAINER_LEASE_TTL"])


def worker_environment(
    service: Service, node: str, *, database: str, reached: Mapping[Dependency, str], spool: str, secret: str | None
) -> dict[str, str]:
    """CONTAINER_* of one worker. `reached` are its dependencies' base URLs, through its own edges.

    `spool` is a folder and `secret` a file with the database's password, both as the worker sees them.
    """
    told = {
        **_QUICK,
        "CONTAINER_DATABASE_RPA_DB_URL": database,
        "CONTAINER_WORKER_ID": node,
        "CONTAINER_ENVIRONMENT": "test",
        "CONTAINER_SPOOL_DIR": spool,
    }
    if secret is not None:
        told["CONTAINER_DATABASE_RPA_DB_PASSWORD_FILE"] = secret
    for dependency, base in reached.items():
        if dependency.name == ALERTMANAGER:
            told["CONTAINER_ALERTMANAGER_URLS"] = base
            continue
        if dependency.name == PREFECT:
            told["CONTAINER_PREFECT_API_URL"] = f"{base}/api"
        told[f"CONTAINER_SERVICE_{dependency.name.upper()}_URL"] = f"{base}{dependency.health_path}"
        told[f"CONTAINER_SERVICE_{dependency.name.upper()}_REQUIRED"] = str(dependency.required).lower()
    return {**told, **service.env}


def rewrite(file: Path, text: str) -> None:
    """Give a mounted file another content, as a secret's owner does: readers see the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.chmod(0o444)  # the worker's account is another one
    new.replace(file)
