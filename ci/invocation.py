"""How tasks run commands and tell people what went wrong."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import wraps
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

REQUIREMENTS = "requirements/tasks.txt"


def sh(c: Context, *arguments: str, pty: bool = False) -> None:
    """Run a command, shown as it is; its failure is the task's."""
    c.run(shlex.join(arguments), echo=True, pty=pty)


def told(function: Callable[..., Any]) -> Callable[..., None]:
    """What cannot be done is said in one line; an integer that is returned is the exit code."""

    @wraps(function)
    def wrapper(*given: Any, **options: Any) -> None:
        from ci.errors import ToolError

        try:
            code = function(*given, **options)
        except (ToolError, TimeoutError) as error:
            raise Exit(str(error), code=1) from None
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("packaging", "watchfiles", "cryptography"):
                raise
            raise Exit(f"{error.name} is missing: pip install --require-hashes -r {REQUIREMENTS}", code=1) from None
        except KeyboardInterrupt:
            raise Exit(code=130) from None
        if code:
            raise Exit(code=code)

    return wrapper
