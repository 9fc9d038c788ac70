"""Ending the runs of lives that ended without a word."""

from __future__ import annotations

import logging
import socket
import sqlite3

from rpa_core.clock import Clock
from rpa_core.prefect import entries
from rpa_core.prefect.model import KIND, Run, timestamp
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import SpoolFull
from rpa_core.resilience.spool.spool import Spool

_log = logging.getLogger("rpa.prefect")
BEGUN = "begun:"  # the note that a run was begun and no end of it put


class Orphans:
    """Looks through adopted spools for runs that were begun and not ended, and puts CRASHED after what waits of them.

    Safe to repeat: the entry has the id that the run's own end has, so that a word it left stands.
    """

    def __init__(self, spools: Spools, clock: Clock) -> None:
        self._spools = spools
        self._clock = clock
        self._settled: set[Spool] = set()

    def settle(self) -> int:
        """Look once; how many runs were ended."""
        adopted = self._spools.adopted()
        self._settled.intersection_update(adopted)
        ended = 0
        for spool in adopted:
            if spool in self._settled:
                continue
            try:
                ended += self._settle(spool)
            except (SpoolFull, sqlite3.Error) as error:  # the next look may find room, or the spool gone
                extra = {"event.action": "prefect.orphan_waits"}
                _log.warning("an earlier life's run cannot be ended yet: %s", error, extra=extra)
            else:
                self._settled.add(spool)
        return ended

    def _settle(self, spool: Spool) -> int:
        ended = 0
        for name, value in spool.notes(KIND).items():
            if not name.startswith(BEGUN):
                continue
            try:
                run = Run.decoded(value)
            except ValueError as error:
                _log.error("an earlier life's run is not known: %s", error, extra={"event.action": "prefect.damaged"})
                spool.remember(KIND, name, None)
                continue
            at = timestamp(self._clock.utcnow())
            message = f"ended without a word; noticed at {at} by a later life on {socket.gethostname()}"
            spool.put(entries.begin(run), entries.end(run, "crashed", message, {"noticed_at": at}, by_another=True))
            spool.remember(KIND, name, None)
            ended += 1
            extra = {"event.action": "prefect.orphan_ended"}
            _log.warning("run %s ended without a word; Prefect is told", run.name, extra=extra)
        return ended
