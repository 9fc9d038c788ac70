"""`python -m rpa_testkit.tethered MODULE ARGUMENTS...`: the same as `python -m MODULE`, but it ends with its owner.

The owner holds the other end of stdin and never writes to it. When it is gone, however it went, the kernel ends the
stream, and this process ends with everything else in its session.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run the module in this process, so that its pid, its signals and its exit code are the module's own."""
    threading.Thread(target=_watch, args=(os.dup(0),), name="tether", daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # the module, and what it starts, cannot take the end of the stream away from us
    os.close(null)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(tether: int) -> None:
    while os.read(tether, 1024):
        pass
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
