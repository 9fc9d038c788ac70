"""`python -m rpa_flows.summary`: the table and the page of a survey, from the database that scored it.

The connection string is read from `CONTAINER_DATABASE_RPA_DB_URL`, so that no password stands in a command line.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

from rpa_core.errors import RpaError
from rpa_core.store.connect import connect
from rpa_flows.codebook.load import load_codebook
from rpa_flows.summary.page import write_page
from rpa_flows.summary.read import scored_responses
from rpa_flows.summary.table import flag_table, segment_tables
from rpa_flows.summary.tally import tally


@click.command(help=__doc__)
@click.option("--codebook", default="anes96", show_default=True, help="Path of the codebook, or a shipped name.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write the HTML page to this file.")
def main(codebook: str, page: Path | None) -> None:
    """Print the tables; write the page where asked to."""
    dsn = os.environ.get("CONTAINER_DATABASE_RPA_DB_URL")
    if not dsn:
        raise click.UsageError("set CONTAINER_DATABASE_RPA_DB_URL to the URL of rpa_db")
    try:
        book = load_codebook(codebook)
        with connect(dsn, application_name="rpa summary") as connection:
            counted = tally(book, scored_responses(connection, book.name))
    except RpaError as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from error
    console = Console()
    console.print(*segment_tables(counted), flag_table(counted))
    if page is not None:
        console.print(f"Page: {write_page(counted, page).resolve().as_uri()}")


if __name__ == "__main__":
    main()
