"""`python -m rpa_testkit.tethered FOLDER MODULE ARGUMENTS...`: as `python -m MODULE`, but it ends with its owner.

The owner holds the other end of stdin and never writes to it. When it is gone, however it went, the kernel ends the
stream: FOLDER is removed, unless its name is empty, and this process ends with everything else in its session.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading


def main() -> None:
    """Run the module in this process, so that its pid, its signals and its exit code are the module's own."""
    folder = sys.argv[1]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):  # the module's own, not what we were started with
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    threading.Thread(target=_watch, args=(os.dup(0), folder), name="tether", daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # the module, and what it starts, cannot take the end of the stream away from us
    os.close(null)
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(tether: int, folder: str) -> None:
    while os.read(tether, 1024):
        pass
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
