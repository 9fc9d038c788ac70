"""The embedded PostgreSQL as a node."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from rpa_testkit.drivers.protocol import NotPossible, StopMode, Usage
from rpa_testkit.postgres import EmbeddedPostgres
from rpa_testkit.warden.undo import Undo

_NOT_HERE = "the embedded PostgreSQL shares the machine with the tester: use the docker driver"


class EmbeddedDatabase:
    """A server of this run alone."""

    name = "postgres"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    @property
    def running(self) -> bool:
        """Whether the postmaster runs."""
        return self._server.running

    @property
    def paused(self) -> bool:
        """Never."""
        return False

    @property
    def exit_code(self) -> int | None:
        """Not known: its guardian owns it."""
        return None

    @property
    def incarnation(self) -> str:
        """The postmaster's pid."""
        try:
            return str(self._server.pid)
        except FileNotFoundError:
            return "ended"

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        self._server.start()

    def stop(self, mode: StopMode) -> None:
        """Stop it; returns at its end."""
        self._server.stop(mode)

    def kill(self) -> None:
        """A crash."""
        self.stop("immediate")

    def terminate(self) -> None:
        """An orderly stop."""
        self.stop("fast")

    def wait_exit(self, timeout_s: float) -> int:
        """`stop` has waited already."""
        if self.running:
            raise NotPossible(f"PostgreSQL still runs after {timeout_s:g} s")
        return 0

    def ready(self) -> bool:
        """Whether it answers a query."""
        with suppress(psycopg.Error), psycopg.connect(self.dsn(), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
        return False

    def dsn(self, dbname: str = "postgres") -> str:
        """A superuser's."""
        return self._server.dsn(dbname)

    def usage(self) -> Usage | None:
        """Of the postmaster and all its backends together; shared memory counts once."""
        import psutil

        try:
            main = psutil.Process(self._server.pid)
            family = [main, *main.children()]
        except (psutil.Error, FileNotFoundError):
            return None
        rss, cpu_s = 0, 0.0
        for process in family:
            with suppress(psutil.Error):
                memory, times = process.memory_info(), process.cpu_times()
                rss += memory.rss - (0 if process is main else memory.shared)
                cpu_s += times.user + times.system
        return Usage(rss_bytes=rss, cpu_s=cpu_s)

    def log_text(self) -> str:
        """The server's log."""
        return self._server.log_text()

    def pause(self) -> None:
        """Not possible."""
        raise NotPossible(_NOT_HERE)

    resume = pause

    def limit(self, what: str, amount: float | None) -> None:
        """Not possible."""
        raise NotPossible(_NOT_HERE)

    def throttled(self) -> float:
        """Never."""
        return 0.0

    def oom_kills(self) -> int:
        """Never."""
        return 0

    def fill_disk(self) -> None:
        """Not possible."""
        raise NotPossible(_NOT_HERE)

    free_disk = fill_disk

    def disk_free(self) -> int:
        """Not possible."""
        raise NotPossible(_NOT_HERE)

    def skew_clock(self, seconds: float) -> None:
        """Not possible."""
        raise NotPossible(_NOT_HERE)

    def clock_offset(self) -> float:
        """None."""
        return 0.0

    def undo_of(self, what: str) -> Undo:
        """Not possible."""
        raise NotPossible(_NOT_HERE)
