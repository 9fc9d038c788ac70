"""The signals that end a program of ours. It sets them itself: what it inherits differs with how it is started.

`program &` in a script, nohup and some CI runners start programs with SIGINT ignored. Where SIGCHLD is ignored, every
child's exit code reads as 0.
"""

from __future__ import annotations

import signal

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def take_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that every `with` block ends. Main thread only.

    A SIGHUP that is ignored stays ignored: that is what nohup is for. Children can be waited for.
    """
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_ENDING, signal.SIGCHLD})
