"""Looks at the run twice a second, from outside: counts from the ledger, leases, what each node uses.

A worker that ends without a fault having hold of it is started again, as a restart policy would, and is written down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from rpa_testkit.drivers.protocol import System
from rpa_testkit.history.entries import Kind, Sample
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.scenario.model import POSTGRES

EVERY_S = 0.5
_TEMPORARY = 75  # EX_TEMPFAIL: the worker asks to be started again

_COUNTS = """
WITH flow AS (SELECT id FROM rpa.flow WHERE name = ANY (%(flows)s))
SELECT (SELECT coalesce(sum(n_ok), 0) FROM rpa.chunk_done WHERE flow IN (TABLE flow)),
       (SELECT count(*) FROM rpa.dead_letter WHERE flow IN (TABLE flow)),
       (SELECT coalesce(sum(n) FILTER (WHERE state <> 'l'), 0) FROM rpa.chunk WHERE flow IN (TABLE flow)),
       (SELECT coalesce(sum(n) FILTER (WHERE state = 'l'), 0) FROM rpa.chunk WHERE flow IN (TABLE flow)),
       (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rpa %%' AND datname = current_database())
"""
_LEASES = """
SELECT id, owner, epoch, extract(epoch FROM lease_until - clock_timestamp())::float8
FROM rpa.chunk WHERE state = 'l' ORDER BY id LIMIT 200
"""


class Sampler:
    """Runs in a thread of its own until `stop`."""

    def __init__(
        self, system: System, history: HistoryWriter, concerned: Callable[[], frozenset[str]], flows: Sequence[str]
    ) -> None:
        self._system = system
        self._flows = list(flows)
        self._history = history
        self._concerned = concerned
        self._stop = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self.last: Sample | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._restart_the_ended()
            counts, leases = self._ask()
            nodes = {}
            for name, node in self._system.nodes.items():
                usage = node.usage()
                nodes[name] = (usage.rss_bytes, round(usage.cpu_s, 3), True) if usage else (0, 0.0, False)
            done, dead, waiting, leased, sessions = counts or (None,) * 5
            self.last = Sample(done, dead, waiting, leased, sessions, nodes)
            self._history.add("sampler", Kind.METRIC, "sample", None, self.last._asdict())
            self._history.extend("sampler", Kind.PROBE, "lease", [(row[0], row[1:]) for row in leases])
        self._close()

    def _restart_the_ended(self) -> None:
        for name, node in self._system.nodes.items():
            if name == POSTGRES or node.running or name in self._concerned() or POSTGRES in self._concerned():
                continue
            code = node.exit_code
            if code is None:
                continue  # it was never started
            self._history.add(
                "sampler", Kind.NODE, "exited", name, {"code": code, "expected": code == _TEMPORARY, "restarted": True}
            )
            node.start()

    def _ask(self) -> tuple[tuple[Any, ...] | None, list[tuple[Any, ...]]]:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._system.dsn,
                    autocommit=True,
                    connect_timeout=2,
                    application_name="rpa-testkit sampler",
                    options="-c statement_timeout=2000",
                )
            counts = self._connection.execute(_COUNTS, {"flows": self._flows}).fetchone()
            return counts, self._connection.execute(_LEASES).fetchall()
        except psycopg.Error:
            self._close()
            return None, []

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
