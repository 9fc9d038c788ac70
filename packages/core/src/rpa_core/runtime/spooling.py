"""Keeping the spools: adopts what dead processes left, removes what is drained, exports how much waits."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping

from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.spool import Spool
from rpa_core.waits import pause

logger = logging.getLogger("rpa.spool")


class SpoolKeeper:
    """One thread; ends with `stop`, or soon after the event given is set.

    `on_dead(kind, reason)` is told when dead letters have come to those of a kind, with the last one's reason.
    """

    def __init__(
        self,
        spools: Spools,
        metrics: Metrics,
        stop: threading.Event,
        *,
        every_s: float = 2.0,
        tidy_every_s: float = 10.0,
        on_dead: Callable[[str, str], object] = lambda kind, reason: None,
    ) -> None:
        self._spools = spools
        self._metrics = metrics
        self._ended = stop
        self._every_s = every_s
        self._tidy_every_s = tidy_every_s
        self._stop = threading.Event()
        self._rand = random.Random()  # noqa: S311 - jitter
        self._on_dead = on_dead
        self._dead: dict[str, int] = {}
        self._dropped: dict[tuple[Spool, str], int] = {}
        self._thread = threading.Thread(target=self._run, name="spool keeper", daemon=True)

    def start(self) -> None:
        """Begin to look after them."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def export(self) -> None:
        """Set the gauges once."""
        spools = self._spools.all()
        for kind in self._spools.kinds:
            depths = {spool: spool.depth(kind) for spool in spools}
            self._metrics.spool_entries.labels(kind=kind).set(sum(each.entries for each in depths.values()))
            self._metrics.spool_bytes.labels(kind=kind).set(sum(each.size_bytes for each in depths.values()))
            self._metrics.spool_oldest.labels(kind=kind).set(max(each.oldest_s for each in depths.values()))
            self._tell_dead(kind, {spool: depth.dead for spool, depth in depths.items()})
            for spool, depth in depths.items():
                before = self._dropped.get((spool, kind), 0)
                self._metrics.spool_dropped.labels(kind=kind).inc(depth.dropped - before)
                self._dropped[spool, kind] = depth.dropped
        self._dropped = {each: count for each, count in self._dropped.items() if each[0] in spools}

    def _tell_dead(self, kind: str, dead: Mapping[Spool, int]) -> None:
        total, before = sum(dead.values()), self._dead.get(kind, 0)
        self._metrics.spool_dead.labels(kind=kind).set(total)
        self._dead[kind] = total
        if total > before:
            letters = [letter for spool, count in dead.items() if count for letter in spool.dead(kind)]
            last = max(letters, key=lambda letter: letter.died_at, default=None)
            self._on_dead(kind, last.reason if last is not None else "discarded meanwhile")

    def _run(self) -> None:
        until_tidy_s = 0.0
        while not self._stop.is_set() and not self._ended.is_set():
            try:
                if until_tidy_s <= 0:
                    self._spools.adopt()
                    self._spools.tidy()
                    until_tidy_s = self._tidy_every_s * self._rand.uniform(0.8, 1.2)
                self.export()
            except Exception:
                # The next look may go better, and nobody else adopts.
                logger.exception("looking after the spool failed", extra={"event.action": "spool.failed"})
            until_tidy_s -= self._every_s
            pause(self._stop, self._every_s)
