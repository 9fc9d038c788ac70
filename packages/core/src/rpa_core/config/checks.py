"""What single fields cannot say: settings that contradict each other, and addresses that cannot work."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from rpa_core.config.models import (
    ContainerConfig,
    DatabaseConfig,
    DiskConfig,
    HealthCheckConfig,
    IntakeConfig,
    ServiceDependency,
    WorkerConfig,
)
from rpa_core.config.problems import Code, Problem
from rpa_core.config.texts import quoted
from rpa_core.observability.printable import printable

_THREADS = 32  # of a worker with every part in use, one database and no uploads: 31 were seen


@dataclass(frozen=True, slots=True)
class _Rule:
    holds: bool
    variables: tuple[str, str]
    text: str


def cross_checks(
    worker: WorkerConfig,
    health: HealthCheckConfig,
    intake: IntakeConfig,
    disk: DiskConfig,
    failed: Container[str] = (),
) -> Iterator[Problem]:
    """Contradictions between settings; each names the variable to change first.

    A rule about a variable in `failed` is left out: its value is not known yet.
    """
    for rule in (*_worker_rules(worker), *_other_rules(worker, health, intake, disk)):
        if not rule.holds and not any(name in failed for name in rule.variables):
            yield Problem(variable=rule.variables[0], text=rule.text, code=Code.CONFLICT)


def _worker_rules(worker: WorkerConfig) -> tuple[_Rule, ...]:
    return (
        _Rule(
            worker.low_water < worker.high_water,
            ("CONTAINER_LOW_WATER", "CONTAINER_HIGH_WATER"),
            f"is {worker.low_water}, but must be below CONTAINER_HIGH_WATER ({worker.high_water})",
        ),
        _Rule(
            worker.shutdown_timeout_s < worker.stop_grace_s,
            ("CONTAINER_SHUTDOWN_TIMEOUT", "CONTAINER_STOP_GRACE"),
            f"is {worker.shutdown_timeout_s:g} s, but the platform kills after CONTAINER_STOP_GRACE "
            f"({worker.stop_grace_s:g} s); lower it, or raise the platform's grace and CONTAINER_STOP_GRACE",
        ),
        _Rule(
            worker.retry_base_s <= worker.retry_cap_s,
            ("CONTAINER_RETRY_BASE", "CONTAINER_RETRY_CAP"),
            f"is {worker.retry_base_s:g} s, but must not exceed CONTAINER_RETRY_CAP ({worker.retry_cap_s:g} s)",
        ),
        _Rule(
            worker.period_days <= worker.retention_days,
            ("CONTAINER_PERIOD_DAYS", "CONTAINER_RETENTION_DAYS"),
            f"is {worker.period_days}, but must not exceed CONTAINER_RETENTION_DAYS ({worker.retention_days})",
        ),
    )


def _other_rules(
    worker: WorkerConfig, health: HealthCheckConfig, intake: IntakeConfig, disk: DiskConfig
) -> tuple[_Rule, ...]:
    return (
        _Rule(
            disk.low_ratio < disk.resume_ratio,
            ("CONTAINER_DISK_LOW", "CONTAINER_DISK_RESUME"),
            f"is {disk.low_ratio:g}, but must be below CONTAINER_DISK_RESUME ({disk.resume_ratio:g})",
        ),
        _Rule(
            intake.max_line_bytes <= intake.max_body_bytes,
            ("CONTAINER_INTAKE_MAX_LINE", "CONTAINER_INTAKE_MAX_BODY"),
            f"is {intake.max_line_bytes}, but must not exceed CONTAINER_INTAKE_MAX_BODY ({intake.max_body_bytes})",
        ),
        _Rule(
            health.heartbeat_max_age_s > worker.poll_max_s,
            ("CONTAINER_HEALTH_HEARTBEAT_MAX_AGE", "CONTAINER_POLL_MAX"),
            f"is {health.heartbeat_max_age_s:g} s, but must exceed CONTAINER_POLL_MAX ({worker.poll_max_s:g} s)",
        ),
    )


def tight_limits(config: ContainerConfig) -> Iterator[Problem]:
    """Limits under which a worker may come to a stop under load: worth knowing, no reason not to start."""
    pids = config.resource_limits.pids
    needed = (
        _THREADS
        + config.intake.max_requests
        + sum(database.connection_pool_size for database in config.database_connections.values())
    )
    if pids is not None and pids < needed:
        text = f"is {pids}, and a worker with these settings may need {needed} threads and processes; raise it"
        yield Problem(variable="CONTAINER_PIDS_LIMIT", text=text, code=Code.CONFLICT)


def database_checks(name: str, database: DatabaseConfig) -> Iterator[Problem]:
    """The form of a connection string; texts never repeat any part of it."""
    variable = f"CONTAINER_DATABASE_{name.upper()}_URL"

    def invalid(text: str) -> Problem:
        return Problem(variable=variable, text=text, code=Code.INVALID)

    retry = database.retry_config
    if retry.base_s > retry.cap_s:
        base = variable.removesuffix("URL") + "RETRY_BASE"
        text = f"is {retry.base_s:g} s, but must not exceed the cap ({retry.cap_s:g} s)"
        yield Problem(variable=base, text=text, code=Code.CONFLICT)
    url = database.connection_string.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if separator and scheme not in ("postgresql", "postgres"):
        shown = f"scheme {scheme}://" if scheme.replace("+", "").isalnum() and len(scheme) <= 24 else "another scheme"
        yield invalid(f"got {shown}; give postgresql://user@host:5432/database")
        return
    if not separator and "=" not in url:
        yield invalid("is neither a URL nor key=value pairs; give postgresql://user@host:5432/database")
        return
    authority = rest.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]
    if separator and (rest.count("@") > 1 or ("@" in rest and "@" not in authority)):
        own = variable.removesuffix("URL") + "PASSWORD"
        yield invalid(f"has special characters in the password; percent-encode them, or put it into {own}")
        return
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except Error:  # its message repeats parts of the text
        yield invalid("cannot be parsed; percent-encode special characters and check the options after '?'")
        return
    if not parts.get("dbname") and not parts.get("service"):
        yield invalid("names no database; give postgresql://user@host:5432/database")
    ports = str(parts.get("port") or "5432").split(",")
    if not all(port == "" or (port.isdigit() and 0 < int(port) < 65536) for port in ports):
        yield invalid("has a port that is no number from 1 to 65535")


def address_checks(config: ContainerConfig) -> Iterator[Problem]:
    """The form of the addresses that reports and alerts go to; texts never repeat any part of them."""
    webhook = config.alerts.webhook_url
    given = [
        ("CONTAINER_PREFECT_API_URL", config.prefect.api_url),
        ("CONTAINER_ALERT_WEBHOOK_URL", webhook.get_secret_value() if webhook is not None else None),
        *(("CONTAINER_ALERTMANAGER_URLS", url) for url in config.alerts.alertmanager_urls),
    ]
    for variable, url in given:
        if url is not None and (wrong := _wrong_address(url)):
            yield Problem(
                variable=variable, text=f"{wrong}; give http://host:port/path or https://...", code=Code.INVALID
            )
    if config.prefect.api_key is not None and config.prefect.auth_string is not None:
        text = "is set beside CONTAINER_PREFECT_AUTH_STRING, but they are exclusive; unset one of them"
        yield Problem(variable="CONTAINER_PREFECT_API_KEY", text=text, code=Code.EXCLUSIVE)


def _wrong_address(url: str) -> str | None:
    if printable(url) != url or any(sign.isspace() for sign in url):
        return "has blanks, control or invisible characters in it"
    if quoted(url):
        return "is in quotes, which become part of the value; remove the quotes"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "has a port that is no number"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a web address"
    if parts.username is not None or parts.password is not None:
        return "carries a user or password, which would show in logs"
    return None


def service_checks(service: ServiceDependency) -> Iterator[Problem]:
    """The form of a service's address."""
    variable = f"CONTAINER_SERVICE_{service.service_name.upper()}_URL"
    wanted = "give http://host:port/path, https://... or tcp://host:port"
    try:
        parts = urlsplit(service.health_endpoint)
        port = parts.port
    except ValueError:
        yield Problem(variable=variable, text=f"has a port that is no number; {wanted}", code=Code.INVALID)
        return
    if parts.scheme not in ("http", "https", "tcp") or not parts.hostname:
        yield Problem(variable=variable, text=f"is not an address; {wanted}", code=Code.INVALID)
    elif parts.scheme == "tcp" and not port:
        yield Problem(variable=variable, text="names no port; give tcp://host:port", code=Code.INVALID)
