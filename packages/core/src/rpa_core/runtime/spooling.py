"""Keeping the spools: adopts what dead processes left, removes what is drained, exports how much waits."""

from __future__ import annotations

import logging
import random
import threading

from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import SpoolDepth
from rpa_core.waits import pause

logger = logging.getLogger("rpa.spool")
_GAUGES_S = 2.0
_TIDY_S = 10.0


class SpoolKeeper:
    """One thread; ends with `stop` or when the event given is set."""

    def __init__(self, spools: Spools, metrics: Metrics, stop: threading.Event) -> None:
        self._spools = spools
        self._metrics = metrics
        self._ended = stop
        self._stop = threading.Event()
        self._rand = random.Random()  # noqa: S311 - jitter
        self._dropped: dict[str, int] = {}
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
        for kind in self._spools.kinds:
            depths = [spool.depth(kind) for spool in self._spools.all()]
            self._metrics.spool_entries.labels(kind=kind).set(sum(each.entries for each in depths))
            self._metrics.spool_bytes.labels(kind=kind).set(sum(each.size_bytes for each in depths))
            self._metrics.spool_oldest.labels(kind=kind).set(max(each.oldest_s for each in depths))
            self._metrics.spool_dead.labels(kind=kind).set(sum(each.dead for each in depths))
            self._count_dropped(kind, depths)

    def _count_dropped(self, kind: str, depths: list[SpoolDepth]) -> None:
        dropped = sum(each.dropped for each in depths)
        self._metrics.spool_dropped.labels(kind=kind).inc(max(0, dropped - self._dropped.get(kind, 0)))
        self._dropped[kind] = dropped

    def _run(self) -> None:
        until_tidy_s = 0.0
        while not self._stop.is_set() and not self._ended.is_set():
            try:
                if until_tidy_s <= 0:
                    self._spools.adopt()
                    self._spools.tidy()
                    until_tidy_s = _TIDY_S * self._rand.uniform(0.8, 1.2)
                self.export()
            except Exception:
                logger.exception("looking after the spool failed", extra={"event.action": "spool.failed"})
            until_tidy_s -= _GAUGES_S
            pause(self._stop, _GAUGES_S)
