"""`python -m rpa_flows.migrations`: bring survey_hub's schema up to date. Safe to run at any time, by any number.

The connection string is read from `CONTAINER_DATABASE_SURVEY_HUB_URL`.
"""

from __future__ import annotations

import os

import click

from rpa_core.errors import RpaError
from rpa_flows.migrations import migrate_survey_hub


@click.command(help=__doc__)
def main() -> None:
    """Apply what is missing."""
    dsn = os.environ.get("CONTAINER_DATABASE_SURVEY_HUB_URL")
    if not dsn:
        raise click.UsageError("set CONTAINER_DATABASE_SURVEY_HUB_URL to the URL of survey_hub")
    try:
        applied = migrate_survey_hub(dsn)
    except RpaError as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from error
    click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


if __name__ == "__main__":
    main()
