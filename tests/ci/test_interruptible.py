"""Tasks that run until they are interrupted, started as a script's `&` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from ci.workspace import ROOT

_PROGRAM = """
import signal, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from ci.develop import command
class Development:
    def __init__(self, **_): pass
    def setup_hot_reloading(self, **_):
        try:
            print("watching", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", flush=True)
command.DevelopmentOrchestrator = Development
code = command.watch()
print(code, signal.getsignal(signal.SIGINT).name, signal.getsignal(signal.SIGTERM).name)
"""


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watching_ends_and_clears_up_where_sigint_was_ignored(number: signal.Signals) -> None:
    """By SIGINT and by SIGTERM; afterwards the signals do what they did before."""
    command = [sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        process.send_signal(number)
        try:
            assert process.communicate(timeout=20)[0] == "stopped\n0 SIG_IGN SIG_DFL\n"
        finally:
            process.kill()
    assert process.returncode == 0
