"""`python -m rpa_flows.summary`: the table and the page of a survey, from the database that scored it.

Database and codebook come from the same variables, files and mounted secrets as those of the flows:
`CONTAINER_DATABASE_RPA_DB_*` and `CONTAINER_CODEBOOK`, so that no password stands in a command line.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.errors import RpaError
from rpa_core.runtime.flows import settings_of_others
from rpa_core.store.connect import connect
from rpa_flows.codebook.load import load_codebook
from rpa_flows.codebook.settings import CodebookSettings
from rpa_flows.summary.page import write_page
from rpa_flows.summary.read import scored_responses
from rpa_flows.summary.table import flag_table, segment_tables
from rpa_flows.summary.tally import tally


@click.command(help=__doc__)
@click.option(
    "--codebook", help="Path of the codebook, or a shipped name; default: CONTAINER_CODEBOOK, and anes96 without it."
)
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write the HTML page to this file.")
def main(codebook: str | None, page: Path | None) -> None:
    """Print the tables; write the page where asked to."""
    manager = ContainerConfigManager(
        os.environ, flow_settings=CodebookSettings, needs_flow=False, others=settings_of_others
    )
    try:
        dsn = manager.load_container_config().database_connections["rpa_db"].dsn()
        book = load_codebook(codebook or manager.load_flow_settings().codebook)
        with connect(dsn, application_name="rpa summary") as connection:
            counted = tally(book, scored_responses(connection, book.name))
    except RpaError as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from error
    if not counted.total.n:
        click.echo(f"no response of the survey {book.name} is scored in this database yet", err=True)
    console = Console(markup=False, emoji=False)  # a codebook's labels are texts
    console.print(*segment_tables(counted), flag_table(counted))
    if page is not None:
        try:
            written = write_page(counted, page)
        except OSError as error:
            click.echo(f"{page} cannot be written: {error.strerror}", err=True)
            raise SystemExit(74) from error
        console.print(f"Page: {written.resolve().as_uri()}")


if __name__ == "__main__":
    main()
