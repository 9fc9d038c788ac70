"""Time as a dependency. Local time only says when to stop trusting; the database's clock decides leases."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the runtime reads time from; tests pass a clock of their own."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def utcnow(self) -> datetime:
        """The wall clock, timezone-aware, for people and logs only."""
        ...


class SystemClock:
    """The machine's clocks.

    `time.monotonic` is CLOCK_MONOTONIC on Linux: it goes on while the process is stopped (SIGSTOP), which is
    what a lease needs.
    """

    monotonic = staticmethod(time.monotonic)  # no frame in between: it is read once per record

    def utcnow(self) -> datetime:
        return datetime.now(UTC)
