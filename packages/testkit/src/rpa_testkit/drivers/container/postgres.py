"""PostgreSQL in a container as a node."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rpa_core.store.migrate import migrate
from rpa_testkit import probe
from rpa_testkit.drivers.container.handle import Container
from rpa_testkit.drivers.container.limits import Bounds
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.space import Space
from rpa_testkit.drivers.protocol import StopMode
from rpa_testkit.drivers.settings import LEDGER, ROLE
from rpa_testkit.ports import HOST
from rpa_testkit.scenario.model import POSTGRES

_SIGNALS: dict[StopMode, str] = {"fast": "SIGINT", "immediate": "SIGQUIT"}
_STOP_S = 60.0
_ASK_S = 2


class ContainerDatabase(ContainerNode):
    """`space` belongs to a container that runs while this one is down: a server whose disk is full may not start."""

    def __init__(
        self, container: Container, *, password: str, port: int, bounds: Bounds, space: Space, log: Path
    ) -> None:
        super().__init__(POSTGRES, container, asks=self._answers, bounds=bounds, space=space, log=log)
        self._password = password
        self._port = port

    def terminate(self) -> None:
        """A fast shutdown: SIGTERM would wait until every client has gone."""
        self._container.signal(_SIGNALS["fast"])

    def stop(self, mode: StopMode) -> None:
        """Stop it; returns at its end."""
        self._container.signal(_SIGNALS[mode])
        self.wait_exit(_STOP_S)

    def dsn(self, dbname: str = "postgres") -> str:
        """A superuser's."""
        return self._dsn("postgres", dbname)

    def make_databases(self, others: Iterable[str]) -> None:
        """The ledger, migrated, with the probe's table, and empty `others`, owned by a role that is no superuser."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            role = sql.Identifier(ROLE)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, self._password))
            for name in (LEDGER, *others):
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), role))
        migrate(self._dsn(ROLE, LEDGER))
        with psycopg.connect(self._dsn(ROLE, LEDGER), autocommit=True) as ledger:
            probe.prepare(ledger)

    def _dsn(self, user: str, dbname: str) -> str:
        return f"postgresql://{user}:{self._password}@{HOST}:{self._port}/{dbname}"

    def _answers(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(self.dsn(), connect_timeout=_ASK_S) as connection:
            row: tuple[Any, ...] | None = connection.execute("SELECT 1").fetchone()
            return row == (1,)
        return False
