"""`rpa db migrate|status`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from rpa_core.cli.databases import checked, database_option
from rpa_core.observability.printable import ascii_json

if TYPE_CHECKING:
    from rpa_core.processing.flow import Flow


@click.group("db")
def command() -> None:
    """The schema of rpa_db, and of the other databases that installed flows bring one for."""


@command.command("migrate")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def migrate_command(database: str | None, as_json: bool) -> None:
    """Apply what is missing in every configured database.

    Safe beside running workers, and beside another migrate: the second one waits.
    """
    from rpa_core.runtime.schema import bring_up_to_date

    applied = bring_up_to_date(_flows(), _dsns(database))
    if as_json:
        click.echo(ascii_json({"applied": applied}))
        return
    for name, migrations in applied.items():
        click.echo(f"{name}: " + (f"applied {', '.join(migrations)}" if migrations else "up to date"))


@command.command("status")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(database: str | None, as_json: bool) -> None:
    """Show each migration and when it was applied. Exit code 1 if any is missing."""
    from rpa_core.runtime.schema import states

    rows = [
        {
            "database": name,
            "migration": f"{one.number:04d}_{one.name}",
            "applied_at": one.applied_at.isoformat(timespec="seconds") if one.applied_at else None,
        }
        for name, one in states(_flows(), _dsns(database))
    ]
    if as_json:
        click.echo(ascii_json(rows))
    else:
        for row in rows:
            when = f"applied {row['applied_at']}" if row["applied_at"] else "missing: run `rpa db migrate`"
            click.echo(f"{row['database']}  {row['migration']}  {when}")
    if any(row["applied_at"] is None for row in rows):
        raise SystemExit(1)


def _flows() -> list[Flow]:
    from rpa_core.runtime.flows import installed, load

    return [load(name) for name in sorted(installed())]


def _dsns(database: str | None) -> dict[str, str]:
    """The one that was named, or all that are configured."""
    if database:
        return {"rpa_db": checked(database)}
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime.flows import settings_of_others

    config = ContainerConfigManager(os.environ, needs_flow=False, others=settings_of_others).load_container_config()
    return {name: one.dsn() for name, one in config.database_connections.items()}
