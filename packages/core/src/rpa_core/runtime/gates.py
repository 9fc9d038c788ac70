"""The gates of one container: queues that are too long, its own memory, and the disks that it writes to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from rpa_core.config.cgroup import memory_usage_bytes, read_limits
from rpa_core.health.resources import resident_bytes
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.backpressure import Gate
from rpa_core.store.lookup import FlowDepth

logger = logging.getLogger("rpa.backpressure")
_MEMORY_HIGH = 0.90
_MEMORY_LOW = 0.80


class Gates:
    """Made from each sample of the queue, and by disk care.

    The intake asks per flow; the worker looks at memory, at the disks and at its target.
    """

    def __init__(self, *, high: float, low: float, memory_bytes: int | None, metrics: Metrics) -> None:
        self._high = high
        self._low = low
        self._memory_bytes = memory_bytes
        # A limit of the cgroup is used up by all that is in it; one that a variable sets is this process's own.
        self._group_has_it = memory_bytes is not None and read_limits().memory_bytes == memory_bytes
        self._metrics = metrics
        self._guard = threading.Lock()
        self._queues: dict[str, Gate] = {}
        self.memory = Gate("memory", high=_MEMORY_HIGH, low=_MEMORY_LOW)
        self._low_disks: set[Path] = set()
        self.disk = Gate("disk", high=1, low=0.5)  # its level is the number of file systems without room
        self.depths: Mapping[str, FlowDepth] = {}

    def queue(self, flow: str) -> Gate:
        """The gate before `flow`."""
        with self._guard:
            if flow not in self._queues:
                self._queues[flow] = Gate(f"queue {flow}", high=self._high, low=self._low)
            return self._queues[flow]

    def reason(self, flow: str) -> str | None:
        """What closes the intake into `flow`: disk, memory or queue; None while it is open."""
        if self.disk.closed:
            return "disk"
        if self.memory.closed:
            return "memory"
        return "queue" if self.queue(flow).closed else None

    def disk_low(self, path: Path, *, low: bool) -> None:
        """The file system of `path` has too little room, or has room again."""
        with self._guard:
            (self._low_disks.add if low else self._low_disks.discard)(path)
            self._update(self.disk, len(self._low_disks))

    def take_in(self, depths: Mapping[str, FlowDepth]) -> None:
        """Update every gate and gauge from one sample."""
        self.depths = depths
        for flow, depth in depths.items():
            self._update(self.queue(flow), depth.unfinished)
            for state in ("ready", "waiting", "leased", "dead"):
                self._metrics.queue_records.labels(flow=flow, state=state).set(getattr(depth, state))
            self._metrics.queue_oldest_age.labels(flow=flow).set(depth.oldest_age_s)
        if self._memory_bytes:
            used = memory_usage_bytes() if self._group_has_it else resident_bytes()
            self._update(self.memory, (used or 0) / self._memory_bytes)

    def _update(self, gate: Gate, level: float) -> None:
        if gate.update(level):
            logger.warning(
                "%s %s at %g (high water %g, low water %g)",
                gate.name,
                "closed" if gate.closed else "opened",
                gate.level,
                gate.high,
                gate.low,
                extra={"event.action": "gate.closed" if gate.closed else "gate.opened"},
            )
