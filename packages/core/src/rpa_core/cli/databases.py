"""Arguments and options that several commands share, and how they find their database and the flow in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

if TYPE_CHECKING:
    import psycopg

F = TypeVar("F", bound=Callable[..., Any])


class _Unicode(click.ParamType[str]):
    """Text that PostgreSQL can store; a shell passes on any bytes."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text.encode("utf-8", "replace").decode() != text:
            self.fail("this is not UTF-8 text", param, ctx)
        return text


class _FlowName(_Unicode):
    """A name that a flow can have; what no flow can be called is a wrong call, not an unknown flow."""

    name = "flow"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from rpa_core.errors import UsageError
        from rpa_core.store.intake import check_flow_name

        text = super().convert(value, param, ctx)
        try:
            check_flow_name(text)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return text


FLOW = _FlowName()
KEY = _Unicode()


def database_option(command: F) -> F:
    """`--database URL`, else the configuration."""
    return click.option(
        "--database",
        metavar="URL",
        help="rpa_db's URL; default: CONTAINER_DATABASE_RPA_DB_URL (or _FILE), which no list of processes shows.",
    )(command)


def rpa_db(database: str | None) -> str:
    """The connection string of rpa_db; raises ConfigError saying what to set, UsageError for a wrong `database`."""
    if database:
        return checked(database)
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime.flows import settings_of_others

    manager = ContainerConfigManager(os.environ, needs_flow=False, others=settings_of_others)
    return manager.load_container_config().database_connections["rpa_db"].dsn()


def text_of(variable: str) -> str | None:
    """The text of one variable from the environment, its file or a mounted secret, as workers read it; None if unset.

    Raises ConfigError for what keeps it from being read.
    """
    from rpa_core.config.problems import lines
    from rpa_core.config.sources import Sources
    from rpa_core.errors import ConfigError

    sources = Sources(os.environ)
    found = sources.get(variable)
    wrong = [problem for problem in sources.problems if problem.variable in (variable, f"{variable}_FILE")]
    if wrong:
        raise ConfigError(lines(wrong))
    return found.text.strip() if found is not None else None


def setting(variable: str) -> Any:
    """The value of one variable, whatever is wrong with others; raises ConfigError for what is wrong with it."""
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.config.problems import lines
    from rpa_core.errors import ConfigError

    manager = ContainerConfigManager(os.environ, needs_flow=False)
    wrong = [problem for problem in manager.problems() if problem.variable == variable]
    if wrong:
        raise ConfigError(lines(wrong))
    return manager.readable()[variable]


def checked(database: str) -> str:
    """The connection string itself; raises UsageError, which repeats no part of it, for one that cannot be meant."""
    from rpa_core.config.checks import database_checks
    from rpa_core.config.models import DatabaseConfig
    from rpa_core.errors import UsageError

    if database.encode("utf-8", "replace").decode() != database:
        raise UsageError("--database: is not UTF-8 text")
    config = DatabaseConfig(connection_string=database)  # type: ignore[arg-type]  # pydantic wraps it
    for problem in database_checks("rpa_db", config):
        raise UsageError(f"--database: {problem.text}")
    return database


@contextmanager
def open_rpa_db(database: str | None) -> Iterator[psycopg.Connection[Any]]:
    """A connection to rpa_db; errors of PostgreSQL leave as RpaErrors."""
    import psycopg

    from rpa_core.store.connect import classify, connect

    with connect(rpa_db(database), application_name="rpa records") as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise classify(error, connection) from error


def check_flow(connection: psycopg.Connection[Any], flow: str, *, otherwise: str = "") -> None:
    """Raise UsageError, naming the nearest, for a flow that is neither installed here nor used in the database.

    `otherwise` ends the message: what to do where the name is meant.
    """
    import difflib

    from rpa_core.errors import UsageError
    from rpa_core.runtime.flows import installed
    from rpa_core.store.lookup import used_flows

    known = sorted({*installed(), *used_flows(connection)})
    if flow not in known:
        near = difflib.get_close_matches(flow, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(known) or 'none'})"
        raise UsageError(f"no flow {flow!r} is installed here or has records in the database{hint}{otherwise}")


@contextmanager
def open_input(file: Path) -> Iterator[BinaryIO]:
    """A file to read, or stdin for `-`; raises InputError for one that cannot be read."""
    from rpa_core.errors import InputError

    if str(file) == "-":
        if sys.stdin is None:
            raise InputError("stdin is closed; name a file, or give it something to read")
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        yield stream
