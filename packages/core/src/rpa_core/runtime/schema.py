"""The schemas that a flow works on: rpa_db's own, and those its package brings for other databases."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping

from rpa_core.errors import SchemaError
from rpa_core.processing.flow import Flow
from rpa_core.store.connect import connect
from rpa_core.store.migrate import PATIENCE_S, MigrationStatus, migrate_package, status
from rpa_core.store.sequences import check_sequences

logger = logging.getLogger("rpa.runtime")
_OWN = ("rpa_db", "rpa_core.store.migrations")


def schemas(flows: Iterable[Flow]) -> list[tuple[str, str]]:
    """(database, package of migrations), rpa_db's first, each once."""
    return list(dict.fromkeys([_OWN, *(schema for flow in flows for schema in flow.migrations)]))


def bring_up_to_date(
    flows: Iterable[Flow],
    dsns: Mapping[str, str],
    *,
    patience_s: float = PATIENCE_S,
    stop: threading.Event | None = None,
) -> dict[str, list[str]]:
    """Apply what is missing in every database that is configured; returns the names by database.

    `patience_s`: how long each migration is tried again while other transactions hold its locks; `stop` ends that.
    """
    applied: dict[str, list[str]] = {}
    for database, package in schemas(flows):
        if database in dsns:
            applied.setdefault(database, []).extend(
                migrate_package(
                    dsns[database],
                    package=package,
                    namespace=namespace(package),
                    patience_s=patience_s,
                    stop=stop,
                )
            )
    return applied


def states(flows: Iterable[Flow], dsns: Mapping[str, str]) -> Iterator[tuple[str, MigrationStatus]]:
    """(database, migration) for every migration of every configured database."""
    for database, package in schemas(flows):
        if database in dsns:
            for one in status(dsns[database], package=package, namespace=namespace(package)):
                yield database, one


def check(flow: Flow, dsns: Mapping[str, str]) -> None:
    """Raise SchemaError if a database of the flow lacks a migration, or cannot be worked with by this version.

    A newer schema that was declared compatible is a warning: workers are being replaced.
    """
    found: dict[str, list[str]] = {}
    for database, one in states([flow], dsns):
        found.setdefault(one.state, []).append(f"{one.label} in {database}")
    if newer := found.get("newer"):
        raise SchemaError(
            f"the schema is newer than this version, which does not know {', '.join(newer)}: run a version at least "
            "as new as the database"
        )
    if changed := found.get("changed"):
        raise SchemaError(
            f"{', '.join(changed)} was applied from another file than this version has: run the version that "
            "migrated, or restore the file"
        )
    if missing := found.get("missing"):
        raise SchemaError(f"missing: {', '.join(missing)}; run `rpa db migrate`, or start with --migrate")
    if compatible := found.get("newer_compatible"):
        logger.warning(
            "the schema is newer than this version and compatible with it (%s): replace this worker by a newer one",
            ", ".join(compatible),
            extra={"event.action": "schema.newer"},
        )
    if (ledger := dsns.get(_OWN[0])) is not None:
        with connect(ledger, application_name="rpa check") as connection:
            check_sequences(connection)


def namespace(package: str) -> str:
    """Under which name a package's migrations are counted: its top level, such as `rpa_flows`."""
    return package.partition(".")[0]
