"""The `rpa` command: finds the subcommand, turns whatever it raises into one message and an exit code.

No exception leaves `main`. A traceback is printed only where RPA_TRACEBACK is set in the environment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from rpa_core.errors import ConfigError, RpaError
from rpa_core.observability.printable import ESCAPING, paragraph, printable

if TYPE_CHECKING:
    import click

    from rpa_core.runtime.ending import Ending

USAGE = 64  # sysexits: the command was called in a wrong way
DEFECT = 70
NO_IO = 74
INTERRUPTED = 130
PIPE_CLOSED = 141  # 128 + SIGPIPE, as the shell reports it of every program whose reader has gone
TRACEBACK = "RPA_TRACEBACK"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rpa` with `argv` (default: the process's); returns the exit code and raises nothing."""
    args = list(sys.argv[1:] if argv is None else argv)
    ending: Ending | None = None
    try:
        _prepare_streams()
        if argv is None and args[:1] == ["run"]:
            from rpa_core.runtime.ending import Ending

            ending = Ending()  # this process is nothing but a worker: it waits only so long for what the flow leaves
        code = _dispatch(args, ending)
        sys.stdout.flush()  # here, where a full disk still becomes a message
    except BaseException as error:  # noqa: BLE001 - the boundary: after this there is only the interpreter's traceback
        code = _ended_by(error, args)
    if ending is not None:
        ending.enforce(code)
    return min(code, 1) if args[:1] == ["health"] else code  # Docker reserves what is above


def _dispatch(args: list[str], ending: Ending | None) -> int:
    if args[:1] == ["health"]:  # runs every few seconds in every container: no command-line library
        from rpa_core.cli.health import run

        return run(args[1:])
    from rpa_core.cli.commands import group

    stdout, stderr = sys.stdout, sys.stderr
    try:
        code = group().main(args, prog_name="rpa", standalone_mode=False, obj=ending)
    except SystemExit:
        if sys.stdout is stdout:
            raise
        # The library has met a closed pipe: it puts stand-ins in the streams' places, and has a code of its own.
        sys.stdout, sys.stderr = stdout, stderr
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
    return code if isinstance(code, int) else 0


def _ended_by(error: BaseException, args: list[str]) -> int:
    """Say what ended the command; the exit code."""
    if isinstance(error, SystemExit):  # how a command ends with a code of its own
        return _ended_by_exit(error, args)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's word for it
        return _tell("interrupted", INTERRUPTED)
    if os.environ.get(TRACEBACK):
        import traceback

        _tell("\n".join(printable(line) for line in _hidden("".join(traceback.format_exception(error))).split("\n")), 0)
    if isinstance(error, RpaError):
        return _explain(error, args)
    if isinstance(error, OSError):
        return _failed_io(error)
    if "click" in sys.modules and (code := _wrong_call(error)) is not None:
        return code
    if "psycopg" in sys.modules and (known := _database_error(error)) is not None:
        return _explain(known, args)
    if isinstance(error, UnicodeEncodeError) and any(not _is_unicode(arg) for arg in args):
        return _tell("rpa: an argument is not Unicode text; write it in UTF-8  [USE001]", USAGE)
    what = f"a defect: {type(error).__name__}: {error}" if str(error) else f"a defect: {type(error).__name__}"
    hint = f"run it again with {TRACEBACK}=1 to see where" if not os.environ.get(TRACEBACK) else "see above"
    return _tell(f"rpa: {printable(_hidden(what))}; {hint}  [RPA000]", DEFECT)


def _ended_by_exit(error: SystemExit, args: list[str]) -> int:
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error.code, str):
        _tell(f"rpa: {paragraph(error.code)}", 0)
    try:
        sys.stdout.flush()
    except OSError as failed:
        return _ended_by(failed, args)
    return code


def _explain(error: RpaError, args: Sequence[str] = ()) -> int:
    if isinstance(error, ConfigError):
        from rpa_core.config.problems import render

        head, *problems = render(error.problems).split("\n")
        return _tell("\n".join([printable(head), *map(printable, problems)]), error.exit_code)
    return _tell(f"rpa: {paragraph(_hidden(str(error), args))}  [{error.code}]", error.exit_code)


def _wrong_call(error: BaseException) -> int | None:
    import io

    import click

    if not isinstance(error, click.ClickException):
        return None
    text = io.StringIO()
    error.show(text)
    lines = text.getvalue().rstrip("\n").split("\n")
    return _tell("\n".join(map(printable, lines)), USAGE if isinstance(error, click.UsageError) else error.exit_code)


def _database_error(error: BaseException) -> RpaError | None:
    import psycopg

    from rpa_core.store.connect import classify

    return classify(error) if isinstance(error, psycopg.Error) else None


def _failed_io(error: OSError) -> int:
    """A file, or stdout: full, on a broken device, or a pipe whose reader has gone (`rpa config example | head`)."""
    if error.errno == errno.EPIPE and error.filename is None:
        _silence(sys.stdout)
        return PIPE_CLOSED
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return _tell(f"rpa: {printable(f'{error.filename}: {reason}')}  [OUT002]", NO_IO)
    _silence(sys.stdout)
    where = "stdout cannot be written" if error.errno in _FULL else "reading or writing failed"
    return _tell(f"rpa: {where}: {reason}; what the command did before is done  [OUT001]", NO_IO)


def _hidden(text: str, args: Sequence[str] | None = None) -> str:
    """Without secrets: those of `--database` in `args`; without `args`, whatever looks like one."""
    from rpa_core.observability.redaction import Redactor

    if args is None:
        return Redactor().text(text)
    from rpa_core.config.redact import dsn_passwords

    given = [after for before, after in pairwise(args) if before == "--database"]
    given += [arg.partition("=")[2] for arg in args if arg.startswith("--database=")]
    hide = Redactor(secret for dsn in given for secret in (dsn, *dsn_passwords(dsn)))
    return hide.values(text)


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _tell(text: str, code: int) -> int:
    """Write a message to stderr, where there is room for it; gives back `code`, which matters more."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _silence(sys.stderr)
    return code


def _prepare_streams() -> None:
    """Standard streams that take any text and fail late.

    A descriptor that is closed would be given to the next file or connection, which would then get what is meant for
    stderr. What is written to such a stream is dropped, as its caller asked for; reading from it is an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(os.dup(2), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stand-in without an encoding
            stream.reconfigure(errors=ESCAPING)  # type: ignore[union-attr]  # a TextIOWrapper in any process


def _silence(stream: TextIO) -> None:
    # The interpreter flushes it on its way out, and would complain a second time and change the exit code.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def __getattr__(name: str) -> click.Group:
    """`cli`: the click group, for completion scripts and tests; built when asked for."""
    if name == "cli":
        from rpa_core.cli.commands import group

        return group()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
