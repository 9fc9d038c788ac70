"""The signals that end a program of ours. It sets them itself: what it inherits differs with how it is started.

`program &` in a script, nohup and some CI runners start programs with SIGINT ignored. Where SIGCHLD is ignored, every
child's exit code reads as 0.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_held = 0
_late = False


def take_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that every `with` block ends. Main thread only.

    A SIGHUP that is ignored stays ignored: that is what nohup is for. Children can be waited for.
    """
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_ENDING, signal.SIGCHLD})


def run_until_interrupted(main: Callable[[], int | None]) -> int | None:
    """A program's exit code; 130 where a signal ends it, after every `with` block has ended what it started."""
    take_signals()
    try:
        return main()
    except KeyboardInterrupt:
        print("interrupted; everything that was started is gone", file=sys.stderr)
        return 130


@contextmanager
def uninterrupted() -> Iterator[None]:
    """The KeyboardInterrupt of a signal that comes meanwhile is raised at the end: what is started here is also noted.

    Signals are not blocked: a child would inherit that. Main thread only; a no-op without `take_signals`.
    """
    global _held, _late
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _late and not _held:
            _late = False
            raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    global _late
    if _held:
        _late = True
        return
    raise KeyboardInterrupt
