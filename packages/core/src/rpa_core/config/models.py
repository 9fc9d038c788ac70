"""The configuration as frozen values. Every field names its variable; `rpa config example` prints them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpa_core.config.fields import variable
from rpa_core.config.tokens import Grant, Token, TokenList, grant, parse_tokens, plain_tokens
from rpa_core.config.units import Bytes, Seconds

LABEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
Label = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
FLOW_PATTERN = r"^[a-z][a-z0-9_.\-]{0,40}$"  # as the CHECK on rpa.flow and rpa_core.store.intake have it
FlowName = Annotated[str, StringConstraints(pattern=FLOW_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_MIB = 1024 * 1024


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown fields, no input in error texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class RetryConfig(Section):
    """Reconnecting, without end: capped exponential backoff with jitter."""

    max_attempts: int = variable("RETRY_ATTEMPTS", 8, "Tries to commit before outcomes are given back", ge=1, le=1000)
    base_s: Seconds = variable("RETRY_BASE", 0.1, "First upper bound of the random delay", gt=0, le=3600)
    cap_s: Seconds = variable("RETRY_CAP", 2.0, "Largest upper bound of the random delay", gt=0, le=86400)


class DatabaseConfig(Section):
    """One PostgreSQL database, read from `CONTAINER_DATABASE_<NAME>_*`."""

    connection_string: SecretStr = variable(
        "URL",
        ...,
        "postgresql://user@host:5432/database?sslmode=...; a password in it must be percent-encoded",
    )
    password: SecretStr | None = variable("PASSWORD", None, "The password as it is; wins over one in the URL")
    connection_pool_size: int = variable("POOL_SIZE", 4, "Most connections one process opens", ge=1, le=200)
    connection_timeout: Seconds = variable("CONNECT_TIMEOUT", 5.0, "Time one connection attempt may take", ge=1, le=300)
    health_check_query: Text = variable("HEALTH_QUERY", "SELECT 1", "Query that a healthy database answers")
    retry_config: RetryConfig = RetryConfig()

    def dsn(self) -> str:
        """The connection string with the password merged in; any character is safe in it. This is a secret."""
        url = self.connection_string.get_secret_value()
        if self.password is None:
            return url
        from psycopg.conninfo import make_conninfo

        return make_conninfo(url, password=self.password.get_secret_value())


class ServiceDependency(Section):
    """A service the container needs, read from `CONTAINER_SERVICE_<NAME>_*`."""

    service_name: Label
    health_endpoint: Text = variable("URL", ..., "http(s)://... answering 2xx when healthy, or tcp://host:port")
    timeout: Seconds = variable("TIMEOUT", 2.0, "Time one probe may take", gt=0, le=300)
    retry_attempts: int = variable(
        "ATTEMPTS", 0, "Probes before giving up; 0 = until the dependency timeout", ge=0, le=100_000
    )
    required: bool = variable("REQUIRED", True, "Whether work waits for it; `prefect` defaults to false")


class ResourceLimits(Section):
    """What this container may use; read from the cgroup where no variable says otherwise."""

    cpu_cores: float = variable("CPU_LIMIT", 1.0, "CPU cores (fractions allowed)", gt=0, le=4096)
    memory_bytes: Bytes | None = variable("MEMORY_LIMIT", None, "Memory limit; unset = none", ge=16 * _MIB)
    pids: int | None = variable(
        "PIDS_LIMIT", None, "Most processes and threads; `rpa config check` warns of too few", ge=8
    )


class HealthCheckConfig(Section):
    """The HTTP surface and the checks behind it."""

    host: Text = variable("HEALTH_HOST", "127.0.0.1", "Address to listen on; images set 0.0.0.0")
    port: int = variable(
        "HEALTH_PORT",
        8080,
        "Port to listen on; 0 = any free one; unset = 8080, or the next one that is free",
        ge=0,
        le=65535,
    )
    interval_s: Seconds = variable("HEALTH_INTERVAL", 3.0, "Time between background checks", ge=0.1, le=3600)
    timeout_s: Seconds = variable("HEALTH_TIMEOUT", 2.0, "Time one check may take", gt=0, le=300)
    heartbeat_max_age_s: Seconds = variable(
        "HEALTH_HEARTBEAT_MAX_AGE",
        60.0,
        "Age of the main loop's heartbeat at which liveness fails",
        ge=1,
        le=86400,
    )
    details: bool | None = variable(
        "HEALTH_DETAILS",
        None,
        "Whether /health shows its parts to everyone; unset = only in development and test, on a loopback address",
    )


class MonitoringConfig(Section):
    """Logs and metrics."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = variable(
        "LOG_LEVEL", "info", "Least severity that is written"
    )
    log_format: Literal["json", "console"] = variable("LOG_FORMAT", "json", "json for machines, console for people")
    log_queue_records: int = variable(
        "LOG_QUEUE",
        10_000,
        "Log records held while stdout is blocked; more are dropped and counted",
        ge=100,
        le=1_000_000,
    )
    metrics_enabled: bool = variable("METRICS_ENABLED", True, "Whether /metrics is served")


class WorkerConfig(Section):
    """Claiming, processing and giving back."""

    worker_id: Label | None = variable("WORKER_ID", None, "Label of this worker in leases and logs; unset = host:pid")
    lease_ttl_s: Seconds = variable("LEASE_TTL", 10.0, "How long a claim is held without renewal", ge=1, le=3600)
    chunk_size: int = variable("CHUNK_SIZE", 1000, "Records in one chunk at intake", ge=1, le=1000)
    claim_records: int = variable(
        "CLAIM_RECORDS", 4000, "Most records one claim holds; follows the memory limit", ge=1, le=100_000
    )
    claim_bytes: Bytes = variable(
        "CLAIM_BYTES", 16 * _MIB, "Most payload one claim reads; follows the memory limit", ge=64 * 1024
    )
    max_claims: int = variable("MAX_CLAIMS", 3, "Crashes before a chunk is bisected", ge=1, le=100)
    max_tries: int = variable("MAX_TRIES", 5, "Attempts before a record is set aside", ge=1, le=1000)
    poll_max_s: Seconds = variable("POLL_MAX", 1.0, "Longest wait between polls of an idle queue", ge=0.01, le=60)
    shutdown_timeout_s: Seconds = variable(
        "SHUTDOWN_TIMEOUT", 25.0, "Time a drain may take after SIGTERM", gt=0, le=86400
    )
    stop_grace_s: Seconds = variable(
        "STOP_GRACE",
        30.0,
        "Time the platform waits before SIGKILL (Kubernetes 30 s, Compose 10 s): the drain's time must be shorter",
        gt=0,
        le=86400,
    )
    high_water: int = variable("HIGH_WATER", 1_000_000, "Waiting records at which intake stops", ge=1)
    low_water: int = variable("LOW_WATER", 800_000, "Waiting records at which intake goes on again", ge=0)
    retry_base_s: Seconds = variable("RETRY_BASE", 1.0, "First backoff of a record that failed", gt=0, le=86400)
    retry_cap_s: Seconds = variable("RETRY_CAP", 300.0, "Longest backoff of a record that failed", gt=0, le=604800)
    retry_budget_ratio: float = variable(
        "RETRY_BUDGET",
        0.1,
        "Retries allowed per first attempt, so that retries cannot double the load",
        ge=0,
        le=1,
    )
    period_days: int = variable("PERIOD_DAYS", 7, "Days of results in one partition", ge=1, le=366)
    retention_days: int = variable("RETENTION_DAYS", 30, "Days that results are kept", ge=1, le=36_500)
    notify: bool = variable("NOTIFY", True, "Wake idle workers by LISTEN/NOTIFY; polling stays the base")


class IntakeConfig(Section):
    """`POST /records/{flow}` and `GET /records/{flow}/{key}`; closed while no token is set."""

    token: Token | None = variable(
        "INTAKE_TOKEN", None, "Bearer token that may post records to this flow, at least 16 ASCII characters"
    )
    read_token: Token | None = variable(
        "INTAKE_READ_TOKEN", None, "Bearer token that may read records' states and results of this flow"
    )
    tokens: TokenList | None = variable(
        "INTAKE_TOKENS",
        None,
        'Further tokens as a JSON list: {"token" or "sha256", "flows" (default: this one), "allow": write, read, '
        "health (default: write)}",
    )
    max_body_bytes: Bytes = variable("INTAKE_MAX_BODY", 64 * _MIB, "Largest request body", ge=1024)
    max_line_bytes: Bytes = variable("INTAKE_MAX_LINE", _MIB, "Longest line or record", ge=64)
    max_requests: int = variable(
        "INTAKE_MAX_REQUESTS", 8, "Uploads worked on at once; follows the memory limit", ge=1, le=1000
    )
    retry_after_s: Seconds = variable("INTAKE_RETRY_AFTER", 5.0, "Retry-After given under backpressure", ge=1, le=3600)

    def grants(self, own_flow: str) -> tuple[Grant, ...]:
        """Every token that is valid, with what it may do; none = the intake is closed."""
        found = [
            grant(token.get_secret_value(), (own_flow,), (right,))
            for token, right in ((self.token, "write"), (self.read_token, "read"))
            if token is not None
        ]
        more = parse_tokens(self.tokens.get_secret_value(), own_flow) if self.tokens is not None else ()
        return (*found, *more)


class SpoolConfig(Section):
    """The durable local queue: what must reach another system later."""

    directory: Path | None = variable(
        "SPOOL_DIR", None, "Folder on a volume that outlives the process; unset = kept in memory, lost at its end"
    )
    max_bytes: Bytes = variable("SPOOL_MAX", 256 * _MIB, "Most bytes waiting in one process's spool", ge=_MIB)
    max_age_s: Seconds = variable(
        "SPOOL_MAX_AGE", 7 * 86_400.0, "Age at which an entry is no longer sent but set aside", ge=60, le=31_536_000
    )
    reserve_bytes: Bytes = variable(
        "SPOOL_RESERVE", _MIB, "Space kept free for the spool itself on a full disk; 0 = none", ge=0
    )


class PrefectConfig(Section):
    """Reporting runs to a Prefect 3 server; it is told, never asked."""

    api_url: Text | None = variable("PREFECT_API_URL", None, "http(s)://host:4200/api; unset = nothing is reported")
    api_key: SecretStr | None = variable("PREFECT_API_KEY", None, "Bearer token (Prefect Cloud)")
    auth_string: SecretStr | None = variable("PREFECT_AUTH_STRING", None, "user:password of a self-hosted server")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = variable(
        "PREFECT_LOG_LEVEL", "info", "Least severity of the log lines that Prefect gets"
    )
    timeout_s: Seconds = variable("PREFECT_TIMEOUT", 5.0, "Time one request may take", gt=0, le=300)
    progress_s: Seconds = variable("PREFECT_PROGRESS", 30.0, "Time between two reports of progress", ge=0.2, le=3600)


class AlertConfig(Section):
    """Whom to tell about what a person should know."""

    alertmanager_urls: tuple[Text, ...] = variable(
        "ALERTMANAGER_URLS", (), "Every Alertmanager, such as http://host:9093; never one address for several"
    )
    webhook_url: SecretStr | None = variable(
        "ALERT_WEBHOOK_URL", None, "Address that gets every alert as JSON by POST; a secret, as its path often is one"
    )
    webhook_token: SecretStr | None = variable("ALERT_WEBHOOK_TOKEN", None, "Bearer token for the webhook")
    timeout_s: Seconds = variable("ALERT_TIMEOUT", 2.0, "Time one attempt may take", gt=0, le=60)
    ttl_s: Seconds = variable(
        "ALERT_TTL", 1800.0, "Time after which an alert ends that nobody renews or resolves", ge=60, le=604_800
    )
    runbook_url: Text | None = variable("ALERT_RUNBOOK_URL", None, "Base address of the runbooks, put into alerts")


class DiskConfig(Section):
    """Free space on every path that is written to, as a share of its file system (at most 1 GiB is asked for)."""

    low_ratio: float = variable("DISK_LOW", 0.10, "Free share at which cleaning begins and intake pauses", ge=0, le=1)
    resume_ratio: float = variable("DISK_RESUME", 0.15, "Free share at which intake goes on again", gt=0, le=1)
    interval_s: Seconds = variable("DISK_INTERVAL", 5.0, "Time between two looks", ge=0.1, le=3600)
    log_dir: Path | None = variable(
        "LOG_DIR", None, "Folder for rotated copies of the log besides stdout; unset = stdout alone"
    )


class RecoveryConfig(Section):
    """What happens when something does not come back by itself."""

    reload_interval_s: Seconds = variable(
        "RELOAD_INTERVAL", 2.0, "Time between looks at mounted files and secrets; 0 = changes wait for a restart", ge=0
    )
    refused_after_s: Seconds = variable(
        "RECOVERY_REFUSED_AFTER",
        300.0,
        "How long a running worker bears that a database refuses it (a password that is being rotated)",
        ge=1,
        le=86400,
    )
    exit_after_s: Seconds = variable(
        "RECOVERY_EXIT_AFTER",
        3600.0,
        "How long a running worker waits for a database before it ends with 75, for the platform to restart it",
        ge=10,
        le=31_536_000,
    )
    crash_window_s: Seconds = variable(
        "CRASH_WINDOW", 600.0, "Crashes within this time make the next start wait", ge=1, le=86400
    )
    crash_backoff_cap_s: Seconds = variable(
        "CRASH_BACKOFF_MAX", 60.0, "Longest wait before a start after repeated crashes; 0 = none", ge=0, le=3600
    )


class ContainerConfig(BaseSettings):
    """Everything one container is told. Made by `ContainerConfigManager`; constructing it reads no environment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, env_prefix="CONTAINER_"
    )

    environment: Literal["development", "test", "staging", "production"] = variable(
        "ENVIRONMENT", "development", "Where this runs"
    )
    flow_name: FlowName = variable("FLOW_NAME", ..., "Name of the flow this container runs")
    dependency_timeout_s: Seconds = variable(
        "DEPENDENCY_TIMEOUT", 300.0, "How long to wait for required dependencies at start", gt=0, le=86400
    )
    database_connections: dict[str, DatabaseConfig] = {}
    service_dependencies: list[ServiceDependency] = []
    resource_limits: ResourceLimits = ResourceLimits()
    health_check_config: HealthCheckConfig = HealthCheckConfig()
    monitoring_config: MonitoringConfig = MonitoringConfig()
    worker: WorkerConfig = WorkerConfig()
    intake: IntakeConfig = IntakeConfig()
    spool: SpoolConfig = SpoolConfig()
    prefect: PrefectConfig = PrefectConfig()
    alerts: AlertConfig = AlertConfig()
    disk: DiskConfig = DiskConfig()
    recovery: RecoveryConfig = RecoveryConfig()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
    ) -> tuple[Any, ...]:
        """Only what is passed in: the process environment is read by the manager, from an explicit mapping."""
        return (named["init_settings"],)

    def secret_values(self) -> tuple[str, ...]:
        """Every secret text in here, for redaction in logs: whole DSNs, their passwords, tokens."""
        from rpa_core.config.redact import dsn_passwords, url_secrets

        found: list[str] = []
        for database in self.database_connections.values():
            url = database.connection_string.get_secret_value()
            found += [url, *dsn_passwords(url)]
            if database.password is not None:
                found.append(database.password.get_secret_value())
        tokens = (
            self.intake.token,
            self.intake.read_token,
            self.prefect.api_key,
            self.prefect.auth_string,
            self.alerts.webhook_token,
        )
        found += [token.get_secret_value() for token in tokens if token is not None]
        if self.intake.tokens is not None:
            found += plain_tokens(self.intake.tokens.get_secret_value())
        addresses = [service.health_endpoint for service in self.service_dependencies]
        addresses += [*self.alerts.alertmanager_urls, self.prefect.api_url or ""]
        found += [text for address in addresses for text in url_secrets(address)]
        if self.alerts.webhook_url is not None:
            found += url_secrets(self.alerts.webhook_url.get_secret_value(), secret=True)
        return tuple(dict.fromkeys(found))
