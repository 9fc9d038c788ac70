"""`python -m rpa_testkit.warden FOLDER`: the warden's process, detached from whoever starts it.

Prints one JSON line, {"address", "pid"}, when it is ready. What it does is told in FOLDER/warden.log.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rpa_testkit.warden.mark import VARIABLE
from rpa_testkit.warden.server import Server

_SOCKET = "warden.sock"
_PATH_BYTES = 100  # sun_path holds 108 on Linux, 104 on macOS


def main() -> None:
    """Listen, detach, serve."""
    parser = argparse.ArgumentParser(prog="python -m rpa_testkit.warden", description=__doc__)
    parser.add_argument("folder", type=Path, help="takes the log")
    folder = parser.parse_args().folder.absolute()
    if VARIABLE in os.environ:
        parser.error(f"{VARIABLE} is set: this process would reap itself")
    folder.mkdir(parents=True, exist_ok=True)
    home = _home()
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0o077)
    listener.bind(str(home / _SOCKET))
    listener.listen(64)
    child = os.fork()
    if child:
        print(json.dumps({"address": str(home / _SOCKET), "pid": child}), flush=True)
        os._exit(0)  # nobody has to reap the one that serves
    _detach(folder)
    try:
        _serve(listener)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _home() -> Path:
    """A folder of this warden's own, for its socket: several may log into one folder, and its path may be too long."""
    fits = len(os.fsencode(tempfile.gettempdir())) + len("/rpa-warden-12345678/") + len(_SOCKET) <= _PATH_BYTES
    return Path(tempfile.mkdtemp(prefix="rpa-warden-", dir=None if fits else "/tmp"))  # noqa: S108 - made by mkdtemp


def _serve(listener: socket.socket) -> None:
    server = Server(listener, _log)
    # In a thread: the main one sits in a lock, perhaps the very one that is needed to end the sessions.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop, daemon=True).start())
    _log("ready")
    server.serve()
    _log("the last session has ended")


def _detach(folder: Path) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / "warden.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(descriptor, target)
    with suppress(OSError):  # a memory fault must not strike the one who takes it back; only root may ask for that
        Path("/proc/self/oom_score_adj").write_text("-900")


def _log(text: str) -> None:
    os.write(2, f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n".encode())


if __name__ == "__main__":
    main()
