"""The schemas that a flow works on: rpa_db's own, and those its package brings for other databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rpa_core.errors import SchemaError
from rpa_core.processing.flow import Flow
from rpa_core.store.migrate import MigrationStatus, migrate_package, status

_OWN = ("rpa_db", "rpa_core.store.migrations")


def schemas(flows: Iterable[Flow]) -> list[tuple[str, str]]:
    """(database, package of migrations), rpa_db's first, each once."""
    return list(dict.fromkeys([_OWN, *(schema for flow in flows for schema in flow.migrations)]))


def bring_up_to_date(flows: Iterable[Flow], dsns: Mapping[str, str]) -> dict[str, list[str]]:
    """Apply what is missing in every database that is configured; returns the names by database."""
    return {
        database: migrate_package(dsns[database], package=package, namespace=namespace(package))
        for database, package in schemas(flows)
        if database in dsns
    }


def states(flows: Iterable[Flow], dsns: Mapping[str, str]) -> Iterator[tuple[str, MigrationStatus]]:
    """(database, migration) for every migration of every configured database."""
    for database, package in schemas(flows):
        if database in dsns:
            for one in status(dsns[database], package=package, namespace=namespace(package)):
                yield database, one


def check(flow: Flow, dsns: Mapping[str, str]) -> None:
    """Raise SchemaError if any database of the flow lacks a migration."""
    missing = [f"{one.number:04d}_{one.name} in {name}" for name, one in states([flow], dsns) if not one.applied_at]
    if missing:
        raise SchemaError(f"missing: {', '.join(missing)}; run `rpa db migrate`, or start with --migrate")


def namespace(package: str) -> str:
    """Under which name a package's migrations are counted: its top level, such as `rpa_flows`."""
    return package.partition(".")[0]
