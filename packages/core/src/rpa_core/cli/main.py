"""The `rpa` command: finds the subcommand, turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rpa_core.errors import ConfigError, RpaError

if TYPE_CHECKING:
    import click

USAGE = 64  # sysexits: the command was called in a wrong way
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rpa` with `argv` (default: the process's); returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args[:1] == ["health"]:  # runs every few seconds in every container: no command-line library
        from rpa_core.cli.health import run

        return run(args[1:])
    return _dispatch(args)


def _dispatch(args: list[str]) -> int:
    import click

    from rpa_core.cli.commands import group

    try:
        code = group().main(args, prog_name="rpa", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except RpaError as error:
        _explain(error)
        return error.exit_code
    except SystemExit as error:  # how a command ends with a code of its own
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:  # `rpa config example | head`
        _close_quietly()
        return 0
    return code if isinstance(code, int) else 0


def _explain(error: RpaError) -> None:
    import click

    if isinstance(error, ConfigError):
        from rpa_core.config.problems import render

        click.echo(render(error.problems), err=True)
    else:
        click.echo(f"rpa: {error}  [{error.code}]", err=True)


def _close_quietly() -> None:
    import os

    # The interpreter flushes stdout on its way out and would complain about the pipe a second time.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def __getattr__(name: str) -> click.Group:
    """`cli`: the click group, for completion scripts and tests; built when asked for."""
    if name == "cli":
        from rpa_core.cli.commands import group

        return group()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
