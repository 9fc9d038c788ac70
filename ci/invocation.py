"""How tasks run commands and tell people what went wrong."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

REQUIREMENTS = "requirements/tasks.txt"


def sh(c: Context, *arguments: str, pty: bool = False) -> None:
    """Run a command, shown as it is; its failure is the task's."""
    c.run(shlex.join(arguments), echo=True, pty=pty)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt meanwhile, also where a script's `&` or nohup had SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
