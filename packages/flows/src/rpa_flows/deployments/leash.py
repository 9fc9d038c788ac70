"""`python -m rpa_flows.deployments.leash PID COMMAND...`: becomes COMMAND, which gets SIGTERM when process PID dies.

A run that is killed cannot tell its worker to drain any more; the kernel does. Linux only: elsewhere, such a worker
goes on until there is nothing left to do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); it outlives execve


def main(arguments: list[str]) -> None:
    """Never returns."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            raise SystemExit(128 + signal.SIGTERM)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
