"""The loaded configuration for people: every variable, its value without secrets, its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from rpa_core.config.catalogue import DATABASE, SERVICE
from rpa_core.config.fields import Variable
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.redact import HIDDEN, dsn_display, url_display


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variable; `value` is JSON and holds no secret."""

    variable: str
    value: Any
    source: str

    @property
    def text(self) -> str:
        if self.value is None:
            return "-"
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


def shown(manager: ContainerConfigManager) -> list[Row]:
    """Every variable in alphabetical order; raises ConfigError when the configuration is wrong."""
    config = manager.load_container_config()
    catalogue, sources = manager.catalogue, manager.sources()
    values = dict(_values(config, catalogue.flat, ""))
    for name, database in config.database_connections.items():
        values |= dict(_values(database, catalogue.database, f"{DATABASE}{name.upper()}_"))
    for service in config.service_dependencies:
        values |= dict(_values(service, catalogue.service, f"{SERVICE}{service.service_name.upper()}_"))
    settings = manager.load_flow_settings()
    if settings is not None:
        values |= {name: _flow_value(settings, variable) for name, variable in catalogue.flow.items()}
    return [
        Row(variable=name, value=_safe(name, value), source=sources.get(name, "default"))
        for name, value in sorted(values.items())
    ]


def _values(model: BaseModel, variables: Mapping[str, Variable], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, variable in variables.items():
        value: Any = model
        for part in variable.path:
            value = getattr(value, part)
        yield f"{prefix}{name}", value


def _flow_value(settings: BaseModel, variable: Variable) -> Any:
    for name, field in type(settings).model_fields.items():
        if field is variable.field:
            return getattr(settings, name)
    return None


def _safe(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return dsn_display(value.get_secret_value()) if name.startswith(DATABASE) and name.endswith("_URL") else HIDDEN
    if isinstance(value, str) and "://" in value:
        return url_display(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(name, item) for item in value]
    return str(value)
