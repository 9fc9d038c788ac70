"""`rpa-testkit`: finds the subcommand, turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

USAGE = 64
UNAVAILABLE = 69
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run with `argv` (default: the process's).

    Returns the exit code: 0 passed, 1 failed, 2 unknown, 64 usage, 69 the system did not start.
    """
    import click

    from rpa_core.errors import RpaError
    from rpa_testkit.cli.commands import group
    from rpa_testkit.drivers.container.handle import EngineError
    from rpa_testkit.drivers.protocol import NotPossible
    from rpa_testkit.interrupts import take_signals
    from rpa_testkit.programs import PostgresError
    from rpa_testkit.runner.errors import NotStartedError
    from rpa_testkit.warden.client import WardenError

    if argv is None:  # as a program
        take_signals()
    try:
        code = group.main(list(sys.argv[1:] if argv is None else argv), prog_name="rpa-testkit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE if isinstance(error, click.UsageError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; everything that was started is gone", err=True)
        return INTERRUPTED
    except (LookupError, ValueError, NotPossible, RpaError) as error:
        click.echo(f"rpa-testkit: {error}", err=True)
        return USAGE
    except (EngineError, NotStartedError, PostgresError, WardenError) as error:
        click.echo(f"rpa-testkit: {error}", err=True)
        return UNAVAILABLE
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
