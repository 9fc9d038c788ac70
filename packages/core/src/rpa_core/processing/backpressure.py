"""Gates with two water marks: closed at the high one, open again only below the low one."""

from __future__ import annotations

import threading


class Gate:
    """Closes when `level` reaches `high`, opens when it falls below `low`; thread-safe."""

    def __init__(self, name: str, *, high: float, low: float) -> None:
        if not low < high:
            raise ValueError(f"gate {name}: low water {low} must be below high water {high}")
        self.name = name
        self.high = high
        self.low = low
        self._closed = threading.Event()
        self.level = 0.0

    def update(self, level: float) -> bool:
        """Take in a new level; True if the gate changed."""
        self.level = level
        if not self.closed and level >= self.high:
            self._closed.set()
            return True
        if self.closed and level < self.low:
            self._closed.clear()
            return True
        return False

    @property
    def closed(self) -> bool:
        """Whether intake should wait."""
        return self._closed.is_set()
