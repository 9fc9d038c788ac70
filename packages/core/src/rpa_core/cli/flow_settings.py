"""What the flow that a command speaks of adds to the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rpa_core.config.problems import Code, Problem
from rpa_core.config.sources import Sources
from rpa_core.errors import UsageError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """`name` is None where only the environment names the flow."""

    name: str | None = None
    settings: type[BaseSettings] | None = None
    databases: tuple[str, ...] = ("rpa_db",)
    problems: tuple[Problem, ...] = ()


def about(flow: str | None, environ: Mapping[str, str]) -> Known:
    """The named flow's settings model and databases. One that cannot be found is a problem, not an error."""
    from rpa_core.runtime.flows import load

    given = None if flow else Sources(environ).get("CONTAINER_FLOW_NAME")
    spec = flow or (given.text.strip() if given is not None else None)
    if not spec:
        return Known()
    try:
        found = load(spec)
    except UsageError as error:
        variable = "--flow" if flow else "CONTAINER_FLOW_NAME"
        return Known(problems=(Problem(variable=variable, text=str(error), code=Code.INVALID),))
    return Known(
        name=found.name if flow or ":" in spec else None,
        settings=found.settings,
        databases=("rpa_db", *found.databases),
    )
