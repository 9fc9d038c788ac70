"""`rpa run FLOW`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rpa_core.runtime.ending import Ending


@click.command("run")
@click.argument("flow", required=False)
@click.option("--migrate", "migrate_first", is_flag=True, help="Bring rpa_db's schema up to date first.")
@click.option(
    "--until-empty",
    is_flag=True,
    help="End when no record is unfinished; exit code 75 for a paused flow.",
)
@click.pass_obj
def command(ending: Ending | None, flow: str | None, migrate_first: bool, until_empty: bool) -> None:
    """Run a worker for FLOW until it is told to stop.

    FLOW is the name of an installed flow or module:ATTRIBUTE; without it, CONTAINER_FLOW_NAME. SIGTERM or Ctrl-C
    drains: what is finished is committed, the rest is given back, exit code 0. A second one ends at once.
    """
    from rpa_core.cli.databases import text_of
    from rpa_core.errors import UsageError
    from rpa_core.runtime.flows import installed
    from rpa_core.runtime.run import run_flow

    spec = flow or text_of("CONTAINER_FLOW_NAME")
    if not spec:
        raise UsageError(
            f"name a flow ({', '.join(sorted(installed())) or 'none is installed'}), or set CONTAINER_FLOW_NAME"
        )
    code = run_flow(spec, os.environ, migrate_first=migrate_first, until_empty=until_empty, ending=ending)
    raise SystemExit(code)
