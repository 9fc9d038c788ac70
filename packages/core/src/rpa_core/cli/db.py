"""`rpa db migrate|status`."""

from __future__ import annotations

import json

import click

from rpa_core.cli.databases import database_option, rpa_db


@click.group("db")
def command() -> None:
    """The schema of rpa_db."""


@command.command("migrate")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def migrate_command(database: str | None, as_json: bool) -> None:
    """Apply what is missing. Safe beside running workers, and beside another migrate: the second one waits."""
    from rpa_core.store.migrate import migrate

    applied = migrate(rpa_db(database))
    if as_json:
        click.echo(json.dumps({"applied": applied}))
    else:
        click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


@command.command("status")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(database: str | None, as_json: bool) -> None:
    """Show each migration and when it was applied. Exit code 1 if any is missing."""
    from rpa_core.store.migrate import status

    rows = status(rpa_db(database))
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "migration": f"{row.number:04d}_{row.name}",
                        "applied_at": row.applied_at.isoformat() if row.applied_at else None,
                    }
                    for row in rows
                ]
            )
        )
    else:
        for row in rows:
            when = f"applied {row.applied_at:%Y-%m-%d %H:%M:%S %Z}" if row.applied_at else "missing: run `rpa db migrate`"
            click.echo(f"{row.number:04d}_{row.name}  {when}")
    if any(row.applied_at is None for row in rows):
        raise SystemExit(1)
