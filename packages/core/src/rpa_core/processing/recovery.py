"""What a worker's session is given against a database in trouble; the runtime's `Remedies` knows more than this."""

from __future__ import annotations

import random
import threading
from typing import Protocol

from rpa_core.errors import RpaError, StoreUnavailable
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.waits import pause


class Recovery(Protocol):
    """Asked by one thread, for one service."""

    def failed(self, error: RpaError) -> float:
        """Take in a failure; returns after how many seconds to try again, at most. Raises what ends the worker."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait so long, or until it is known that a try may succeed, or until `stop`."""
        ...

    def recovered(self) -> None:
        """A use went well after one that failed, or for the first time."""
        ...


class Backoff:
    """`Recovery` for a session that is alone: an outage is waited for, everything else ends the worker."""

    def __init__(self, policy: RetryPolicy, rand: random.Random) -> None:
        self._policy = policy
        self._rand = rand
        self._failures = 0

    def failed(self, error: RpaError) -> float:
        """As `Recovery.failed`; the delays grow."""
        if not isinstance(error, StoreUnavailable):
            raise error
        self._failures += 1
        return self._policy.bound_s(self._failures) * self._rand.uniform(0.5, 1.0)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """As `Recovery.wait`."""
        pause(stop, seconds)

    def recovered(self) -> None:
        """As `Recovery.recovered`."""
        self._failures = 0
