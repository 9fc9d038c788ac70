"""The one error tree. Every error has a stable code, an exit code and says whether a retry may help.

Exit codes follow BSD sysexits where one fits: 64 usage, 65 bad data, 69 a dependency is unavailable,
70 software, 75 try again later, 77 not permitted, 78 configuration.
"""

from __future__ import annotations

from typing import ClassVar


class RpaError(Exception):
    """Root of every error that rpa raises on purpose; `str()` never contains a secret."""

    code: ClassVar[str] = "RPA000"
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False


class ConfigError(RpaError, ValueError):
    """The configuration is wrong; `problems` lists everything that is, one finished line each."""

    code = "CFG000"
    exit_code = 78

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class UsageError(RpaError):
    """The command or call was made in a way that cannot work; the message says how to make it."""

    code = "USE001"
    exit_code = 64


class InputError(RpaError, ValueError):
    """The input as a whole cannot be read; nothing of it was loaded."""

    code = "INP001"
    exit_code = 65


class TransientError(RpaError):
    """Something outside is away for now; the same call may succeed later."""

    code = "TMP001"
    exit_code = 75
    retryable = True


class StoreUnavailable(TransientError):
    """PostgreSQL cannot be reached, is starting, stopping, read-only or out of slots."""

    code = "TMP002"


class StoreDenied(StoreUnavailable):
    """PostgreSQL let this process in before and refuses it now: a password that is being rotated, a lost right.

    It is borne like an outage; where it lasts, the worker ends as it would for a refusal at its start.
    """

    code = "TMP006"
    exit_code = 77


class OutageTooLong(RpaError):
    """A database was away for longer than a running worker waits; the platform is to start it anew."""

    code = "STO003"
    exit_code = 75
    retryable = True


class DependencyUnavailable(TransientError):
    """A service the container needs did not become healthy in time."""

    code = "TMP003"
    exit_code = 69


class StoreRefused(RpaError):
    """PostgreSQL answered and refuses for good: wrong password, no such database, missing rights."""

    code = "STO001"
    exit_code = 77


class SchemaError(RpaError):
    """The database's schema is not the one this version works with."""

    code = "STO002"
    exit_code = 78


class FlowFailed(RpaError):
    """Code of the flow's that is no handler failed: its `open`, its settings' files, or the end of what it opened."""

    code = "FLO001"


class FlowPaused(RpaError):
    """The flow is paused with records unfinished, and the worker was to end when there are none."""

    code = "FLO002"
    exit_code = 75
    retryable = True


class LeaseLost(RpaError):
    """Another worker owns these chunks now; nothing may be written for them."""

    code = "LEA001"


class RecordRejected(RpaError):
    """Raised by a handler: this record can never succeed. It is set aside with `reasons`."""

    code = "REC001"
    exit_code = 65

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(map(text_of, reasons)))
        self.reasons = reasons


def text_of(value: object, most: int = 2000) -> str:
    """What a value says of itself, as text that UTF-8 can hold; for one that raises, what it is."""
    try:
        given = str(value)[:most]
    except BaseException as error:  # noqa: BLE001 - an object of a flow's: its __str__ may do anything
        given = f"{type(value).__name__} (its text cannot be had: {type(error).__name__})"
    return given.encode("utf-8", "replace").decode()


def describe(error: BaseException) -> str:
    """An error's class and the first lines of its text."""
    return f"{type(error).__name__}: {text_of(error)}"
