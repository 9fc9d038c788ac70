"""The group of subcommands; each is a module with an object named `command`, imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from rpa_core.version import VERSION

# Name -> one line of help. The lines stand here so that `rpa --help` imports no subcommand.
COMMANDS = {
    "config": "Check, show and document the configuration.",
    "db": "Bring the database's schema up to date, or look at it.",
    "health": "Ask a running container how it is (exit 0 or 1).",
    "records": "Load records, look at them, retry what was set aside.",
    "run": "Run a flow until SIGTERM, then drain.",
    "spool": "Look at what waits to reach another system, and at what could not.",
}


class LazyGroup(click.Group):
    """Imports `rpa_core.cli.<name>` when `<name>` is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"rpa_core.cli.{cmd_name}").command
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def group() -> click.Group:
    """The `rpa` command."""

    @click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.version_option(VERSION, prog_name="rpa")
    def rpa() -> None:
        """Run record-processing flows on PostgreSQL; every outcome is committed exactly once.

        Configuration comes from CONTAINER_* variables: `rpa config example` lists them, `rpa config check --connect`
        says what is wrong.

        \b
        Exit codes:
           0  done; a worker: drained, or nothing is left (--until-empty)
           1  something asked about is not as it should be (health, db status, spool)
          64  called in a wrong way
          65  bad input; nothing of it was loaded
          69  a dependency did not come up in time
          70  a defect, or a hung main loop; RPA_TRACEBACK=1 shows where
          74  a file, a folder or stdout cannot be read or written
          75  try again later: PostgreSQL is away, or a drain took too long
          77  PostgreSQL refuses: password, rights, no such database
          78  configuration or schema
         130  interrupted (Ctrl-C); 141: the reader of stdout has gone
        """

    assert isinstance(rpa, click.Group)
    return rpa
