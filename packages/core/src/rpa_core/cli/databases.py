"""How the commands find their database."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def database_option(command: F) -> F:
    """`--database URL`, else the configuration."""
    return click.option(
        "--database", metavar="URL", help="rpa_db's URL; default: CONTAINER_DATABASE_RPA_DB_URL (or _FILE)."
    )(command)


def rpa_db(database: str | None) -> str:
    """The connection string of rpa_db; raises ConfigError saying what to set."""
    if database:
        return database
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime.flows import settings_of_others

    manager = ContainerConfigManager(os.environ, needs_flow=False, others=settings_of_others)
    return manager.load_container_config().database_connections["rpa_db"].dsn()
