"""The configuration for people: every variable, its value without secrets, its source, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from rpa_core.config.catalogue import DATABASE
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.problems import Problem
from rpa_core.config.redact import HIDDEN, dsn_display, url_display


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variable; `value` is JSON and holds no secret; `problem` says what is wrong with it."""

    variable: str
    value: Any
    source: str
    problem: str | None = None

    @property
    def text(self) -> str:
        if self.value is None:
            return "-"
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


def shown(manager: ContainerConfigManager, further: Sequence[Problem] = ()) -> list[Row]:
    """Every variable in alphabetical order, and what is wrong with it; problems of others are rows of their own."""
    sources = manager.sources()
    wrong: dict[str, str] = {}
    for problem in (*further, *manager.problems()):
        wrong[problem.variable] = f"{wrong.get(problem.variable, '')} {problem.text}  [{problem.code}]".strip()
    values: dict[str, Any] = dict.fromkeys([*sources, *wrong])
    values |= manager.readable()
    if not wrong:
        values |= dict(_settings(manager))
    return [
        Row(variable=name, value=_safe(name, value), source=sources.get(name, "environment"), problem=wrong.get(name))
        for name, value in sorted(values.items())
    ]


def _settings(manager: ContainerConfigManager) -> Iterator[tuple[str, Any]]:
    """The flow's own settings as its model made them."""
    settings = manager.load_flow_settings()
    fields = type(settings).model_fields if settings is not None else {}
    for name, variable in manager.catalogue.flow.items():
        for attribute, field in fields.items():
            if field is variable.field:
                yield name, getattr(settings, attribute)


def _safe(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        if not name.endswith("_URL") or "://" not in text:
            return dsn_display(text) if name.startswith(DATABASE) and name.endswith("_URL") else HIDDEN
        return dsn_display(text) if name.startswith(DATABASE) else url_display(text, secret=True)
    if isinstance(value, str) and "://" in value:
        return url_display(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(name, item) for item in value]
    return str(value)
