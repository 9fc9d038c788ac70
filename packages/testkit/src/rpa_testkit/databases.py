"""A database per test: copied from a template that is migrated once, dropped at the end by force."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString, Protocol
from urllib.parse import quote, unquote, urlsplit

from rpa_testkit.postgres import StopMode
from rpa_testkit.programs import PostgresError


class Server(Protocol):
    """What databases need of a server; EmbeddedPostgres and ExternalPostgres have it."""

    def dsn(self, dbname: str = "postgres") -> str:
        """A connection string for a superuser."""
        ...


class ExternalPostgres:
    """A server that was there before the tests (`--postgres-dsn`); the tests use it and never stop it."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname:
            raise PostgresError(
                "--postgres-dsn (RPA_TEST_DSN) must look like postgresql://user:password@host:port/postgres"
            )
        self._parts = parts
        self._maintenance = unquote(parts.path.lstrip("/")) or "postgres"
        self.host = parts.hostname
        self.port = parts.port or 5432

    def dsn(self, dbname: str = "postgres") -> str:
        """The given connection string with another database name."""
        name = self._maintenance if dbname == "postgres" else dbname
        return self._parts._replace(path=f"/{quote(name, safe='')}").geturl()

    @property
    def version(self) -> str:
        """The server's version, such as `18.1`."""
        import psycopg

        with psycopg.connect(self.dsn()) as connection:
            return str(connection.info.parameter_status("server_version")).split()[0]

    def start(self) -> None:
        """Refused."""
        raise PostgresError("this server is not the tests' own; use the fixture private_postgres to start one")

    def stop(self, mode: StopMode = "fast") -> None:
        """Refused."""
        raise PostgresError(f"not stopping ({mode}) an external server; use the fixture private_postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database of one test."""

    name: str
    dsn: str


class Databases:
    """Makes and drops databases on one server. The template is made on first use and dropped by `close`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._template: Database | None = None

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        """A database with the schema of rpa_core."""
        if self._template is None:
            self._template = self._make_template()
        with self._fresh(self._template.name) as database:
            yield database

    @contextmanager
    def empty(self) -> Iterator[Database]:
        """A database without any table."""
        with self._fresh("template0") as database:
            yield database

    def close(self) -> None:
        """Drop the template."""
        if self._template is not None:
            self._drop(self._template.name)
            self._template = None

    def _make_template(self) -> Database:
        from rpa_core.store.migrate import migrate

        template = self._create("template0", prefix="rpa_template")
        migrate(template.dsn)
        return template

    @contextmanager
    def _fresh(self, template: str) -> Iterator[Database]:
        database = self._create(template, prefix="rpa_test")
        try:
            yield database
        finally:
            self._drop(database.name)

    def _create(self, template: str, *, prefix: str) -> Database:
        name = f"{prefix}_{secrets.token_hex(6)}"
        # The default strategy, WAL_LOG, took 52 ms; FILE_COPY with its two checkpoints took 93 ms.
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return Database(name=name, dsn=self._server.dsn(name))

    def _drop(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
