"""Waiting on conditions: the only place of the testkit that polls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


class WaitTimeoutError(AssertionError):
    """The condition did not come true in time; the notes carry the context."""


def until(
    condition: Callable[[], Value],
    timeout_s: float,
    why: str,
    context: Callable[[], str] | None = None,
    *,
    every_s: float = 0.02,
) -> Value:
    """Return the first truthy value of `condition`, asked every `every_s` seconds on the monotonic clock.

    After `timeout_s` seconds raises WaitTimeoutError naming `why` and the last value; what `context` returns
    (logs, a table's rows) is attached as a note. Errors of `condition` pass through.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            break
        time.sleep(every_s)
    error = WaitTimeoutError(f"waited {timeout_s:g} s for {why}; last value: {value!r}")
    if context is not None:
        error.add_note(context())
    raise error
