"""`rpa config check|show|schema|example`."""

from __future__ import annotations

import os

import click

from rpa_core.observability.printable import ascii_json, printable

FLOW_OPTION = click.option(
    "--flow", metavar="FLOW", help="Include this flow's own settings; default: CONTAINER_FLOW_NAME."
)


@click.group("config")
def command() -> None:
    """Check, show and document the configuration."""


@command.command("check")
@click.option("--connect", is_flag=True, help="Connect to the databases and look at the services, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@FLOW_OPTION
def check(connect: bool, as_json: bool, flow: str | None) -> None:
    """Say everything that is wrong, at once. Exit code 78 if anything is."""
    from rpa_core.cli.flow_settings import about
    from rpa_core.runtime.flows import settings_of_others
    from rpa_core.services.validator import ConfigurationValidator

    known = about(flow, os.environ)
    validator = ConfigurationValidator(
        os.environ,
        flow_settings=known.settings,
        flow_name=known.name,
        databases=known.databases,
        others=settings_of_others,
    )
    report = validator.generate_startup_report(connect=connect, further=known.problems)
    text = report.to_json() if as_json else "\n".join(map(printable, report.to_text().split("\n")))
    click.echo(text, err=not (report.ready or as_json))
    if not report.ready:
        raise SystemExit(78)


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@FLOW_OPTION
def show(as_json: bool, flow: str | None) -> None:
    """Print every variable with its value (secrets hidden), where it came from, and what is wrong with it.

    Exit code 78 if anything is wrong.
    """
    from rpa_core.cli.flow_settings import about
    from rpa_core.config.display import shown
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime.flows import settings_of_others

    known = about(flow, os.environ)
    manager = ContainerConfigManager(
        os.environ,
        flow_settings=known.settings,
        flow_name=known.name,
        databases=known.databases,
        needs_flow=False,
        others=settings_of_others,
    )
    rows = shown(manager, known.problems)
    if as_json:
        table = {
            row.variable: {"value": row.value, "source": row.source} | ({"problem": row.problem} if row.problem else {})
            for row in rows
        }
        click.echo(ascii_json(table, indent=2))
    else:
        width = max(len(row.variable) for row in rows)
        values = max(len(row.text) for row in rows)
        for row in rows:
            line = f"{row.variable:<{width}}  {row.text:<{min(values, 60)}}  {row.source}"
            click.echo(printable(f"{line}  PROBLEM: {row.problem}" if row.problem else line))
    if any(row.problem for row in rows):
        raise SystemExit(78)


@command.command("schema")
@FLOW_OPTION
def schema(flow: str | None) -> None:
    """Print a JSON schema of the variables."""
    from rpa_core.cli.flow_settings import about
    from rpa_core.config.catalogue import Catalogue
    from rpa_core.config.documents import json_schema

    known = about(flow, os.environ)
    click.echo(ascii_json(json_schema(Catalogue(known.settings)), indent=2))


@command.command("example")
@FLOW_OPTION
def example(flow: str | None) -> None:
    """Print an .env example: every variable with its meaning, its form and its default."""
    from rpa_core.cli.flow_settings import about
    from rpa_core.config.catalogue import Catalogue
    from rpa_core.config.documents import env_example

    click.echo(env_example(Catalogue(about(flow, os.environ).settings)), nl=False)


@command.command("page")
def page() -> None:
    """Print a Markdown page of every variable, with those of the installed flows."""
    from rpa_core.config.catalogue import Catalogue
    from rpa_core.config.documents import markdown
    from rpa_core.runtime.flows import installed, load

    flows = {name: Catalogue(load(name).settings) for name in sorted(installed())}
    click.echo(markdown(Catalogue(), flows), nl=False)
