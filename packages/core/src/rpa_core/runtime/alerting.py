"""From the configuration to `Alerts`: its sinks, its labels, its folder."""

from __future__ import annotations

from collections.abc import Callable

from rpa_core.config.models import ContainerConfig
from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.alerts.model import Notice, Origin
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.alerts.sinks import Alertmanager, Sink, Webhook
from rpa_core.resilience.spool.directory import Spools


def open_alerts(
    config: ContainerConfig,
    *,
    spools: Spools,
    instance: str,
    redactor: Redactor,
    on_change: Callable[[Notice, bool], object] | None = None,
) -> Alerts:
    """The alerts of one container; `instance` is a label that survives a restart. Without sinks, they are logged."""
    settings = config.alerts
    sinks: list[Sink] = [
        Alertmanager(url, timeout_s=settings.timeout_s, ttl_s=settings.ttl_s) for url in settings.alertmanager_urls
    ]
    if settings.webhook_url is not None:
        token = settings.webhook_token.get_secret_value() if settings.webhook_token is not None else None
        sinks.append(Webhook(settings.webhook_url.get_secret_value(), token=token, timeout_s=settings.timeout_s))
    directory = config.spool.directory
    return Alerts(
        sinks,
        origin=Origin(
            service=config.flow_name,
            instance=instance,
            environment=config.environment,
            runbook_url=settings.runbook_url,
        ),
        spools=spools,
        opened=OpenAlerts(directory / "alerts" if directory is not None else None),
        redactor=redactor,
        timeout_s=settings.timeout_s,
        ttl_s=settings.ttl_s,
        on_change=on_change,
    )
