"""psql in the database's container, and a shell in any."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ci.errors import ToolError
from ci.stack import report
from ci.stack.compose import Stack, compose, stack_of

DATABASES = ("rpa_db", "survey_hub")


def database(
    name: str = "rpa_db",
    *,
    arguments: Sequence[str] = (),
    environment: str = "development",
    stack: Stack | None = None,
) -> int:
    """Open psql as the superuser, who needs no password inside the container; `arguments` are psql's own."""
    if name not in DATABASES:
        raise ToolError(f"there is no database {name!r}; there are {' and '.join(DATABASES)}")
    chosen = stack or stack_of(environment)
    _running(chosen, "postgres")
    psql = ["psql", "--username=postgres", f"--dbname={name}", *arguments]
    return compose("exec", *_terminal(), "postgres", *psql, stack=chosen, check=False).returncode


def shell(
    service: str,
    *,
    index: int = 1,
    command: Sequence[str] = (),
    environment: str = "development",
    stack: Stack | None = None,
) -> int:
    """Open a shell in the `index`-th container of a service, as the user it runs as; or run `command` there."""
    chosen = stack or stack_of(environment)
    _running(chosen, service)
    # bash where the image has it, else whatever sh is.
    wanted = list(command) or ["sh", "-c", "if command -v bash >/dev/null; then exec bash; fi; exec sh"]
    return compose("exec", *_terminal(), "--index", str(index), service, *wanted, stack=chosen, check=False).returncode


def _terminal() -> list[str]:
    return [] if sys.stdin.isatty() and sys.stdout.isatty() else ["--no-TTY"]


def _running(stack: Stack, service: str) -> None:
    found = report.containers(stack)
    if not any(one.service == service and one.state == "running" for one in found):
        others = sorted({one.service for one in found if one.state == "running"})
        what = f"running are {', '.join(others)}" if others else "nothing runs; start it with: invoke compose.up"
        raise ToolError(f"no container of {service} runs in {stack.project}; {what}")
