"""Keeps unit tests from the network and from other processes.

An audit hook sees what monkeypatching would miss: any module's sockets, `os.fork`, `posix_spawn`. A hook
cannot be removed from an interpreter, so it is installed when the first unit test runs and does nothing
between unit tests. What C libraries do on their own (libpq) raises no audit event: for those, the plugin
refuses the fixtures that would give a unit test a server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_NETWORK = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"})
_PROCESS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})


class Isolation:
    """One per pytest session."""

    def __init__(self) -> None:
        self._installed = False
        self._test: str | None = None

    @contextmanager
    def around(self, test: str) -> Iterator[None]:
        """Refuse network and processes while `test` runs."""
        if not self._installed:
            sys.addaudithook(self._refuse)
            self._installed = True
        self._test = test
        try:
            yield
        finally:
            self._test = None

    def _refuse(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._test is None or (event not in _NETWORK and event not in _PROCESS):
            return
        what = "the network" if event in _NETWORK else "another process"
        # `fail` raises no Exception: code under test that catches Exception cannot swallow it.
        pytest.fail(
            f"{self._test} is a unit test and reached for {what} ({event}). "
            "Unit tests touch neither: pass a fake, or move the file from tests/unit to tests/integration."
        )
