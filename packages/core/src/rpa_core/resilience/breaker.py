"""CircuitBreaker: nobody knocks at a door that was found closed, until it is time to look again.

    closed     calls go through; those of the last `window_s` seconds are counted
    open       calls are refused at once, for a time that doubles with every failed look, with jitter
    half-open  one call at a time goes through: its success closes the breaker, its failure opens it again

A breaker holds no thread and no timer: `open` becomes `half-open` when somebody asks after the time is over. It knows
nothing of what it guards, and a process that dies leaves nothing behind.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import TransientError
from rpa_core.resilience.retry import RetryPolicy


class BreakerState(StrEnum):
    """What a breaker does with a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpen(TransientError):
    """The call was not made: the dependency was found away, and it is not yet time to look again."""

    code = "TMP005"

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name} is away; the next look is in {retry_after_s:.1f} s")
        self.name = name
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[CircuitOpen], tuple[str, float]]:
        return type(self), (self.name, self.retry_after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    It opens when at least `min_calls` calls ended in the last `window_s` seconds and `failure_ratio` of them failed.
    It stays open for `open_s` seconds, doubling up to `open_cap_s` with every failed look; the time is spread over its
    upper half.
    """

    window_s: float = 10.0
    min_calls: int = 5
    failure_ratio: float = 0.5
    open_s: float = 0.5
    open_cap_s: float = 30.0

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.min_calls < 1 or not 0 < self.failure_ratio <= 1:
            raise ValueError("a breaker needs window_s > 0, min_calls >= 1 and 0 < failure_ratio <= 1")
        if not 0 < self.open_s <= self.open_cap_s:
            raise ValueError("a breaker needs 0 < open_s <= open_cap_s")


class CircuitBreaker:
    """One dependency's breaker; shared by all threads that use the dependency.

    `on_change(name, before, after)` is told of every change of state, outside the breaker's lock.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy | None = None,
        *,
        clock: Clock | None = None,
        rand: random.Random | None = None,
        on_change: Callable[[str, BreakerState, BreakerState], object] | None = None,
    ) -> None:
        self.name = name
        self._policy = policy or BreakerPolicy()
        self._pauses = RetryPolicy(max_attempts=0, base_s=self._policy.open_s, cap_s=self._policy.open_cap_s)
        self._clock = clock or SystemClock()
        self._rand = rand or random.Random()  # noqa: S311 - jitter
        self._on_change = on_change
        self._changed = threading.Condition()
        self._state = BreakerState.CLOSED
        self._calls: deque[tuple[float, bool]] = deque()
        self._openings = 0
        self._look_at = 0.0
        self._looking = False

    @property
    def state(self) -> BreakerState:
        """As it is now; an open breaker whose time is over still says `open` until somebody asks."""
        return self._state

    def retry_after_s(self) -> float:
        """Seconds until a call may go through; 0 if one may now."""
        with self._changed:
            if self._state is BreakerState.CLOSED or (self._state is BreakerState.HALF_OPEN and not self._looking):
                return 0.0
            return max(0.0, self._look_at - self._clock.monotonic())

    def allow(self) -> bool:
        """Whether a call may be made now. Who gets True must tell its end by `succeeded` or `failed`."""
        with self._changed:
            if self._state is BreakerState.CLOSED:
                return True
            now = self._clock.monotonic()
            if now < self._look_at or (self._looking and self._state is BreakerState.HALF_OPEN):
                return False
            before, self._state = self._state, BreakerState.HALF_OPEN
            self._looking = True
        self._tell(before, BreakerState.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """A call went well."""
        with self._changed:
            before = self._state
            self._looking = False
            self._note(True)
            if before is BreakerState.CLOSED:
                return
            self._state = BreakerState.CLOSED
            self._openings = 0
            self._calls.clear()
            self._changed.notify_all()
        self._tell(before, BreakerState.CLOSED)

    def failed(self) -> None:
        """A call failed in a way that says that the dependency is away."""
        with self._changed:
            before = self._state
            self._looking = False
            self._note(False)
            if before is BreakerState.CLOSED and not self._too_many():
                return
            self._openings += 1
            pause_s = self._pauses.bound_s(self._openings) * self._rand.uniform(0.5, 1.0)
            self._look_at = self._clock.monotonic() + pause_s
            self._state = BreakerState.OPEN
        self._tell(before, BreakerState.OPEN)

    @contextmanager
    def call(self, *failures: type[BaseException]) -> Iterator[None]:
        """Around a call. Raises CircuitOpen instead of making it; `failures` (default: any Exception) count."""
        if not self.allow():
            raise CircuitOpen(self.name, self.retry_after_s())
        kinds = failures or (Exception,)
        try:
            yield
        except kinds:
            self.failed()
            raise
        except BaseException:
            self.succeeded()  # it answered, if not with what was hoped for
            raise
        self.succeeded()

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until it closes, at most so long; whether it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is BreakerState.CLOSED, timeout_s)

    def _note(self, good: bool) -> None:
        now = self._clock.monotonic()
        self._calls.append((now, good))
        while self._calls and now - self._calls[0][0] > self._policy.window_s:
            self._calls.popleft()

    def _too_many(self) -> bool:
        bad = sum(1 for _, good in self._calls if not good)
        return len(self._calls) >= self._policy.min_calls and bad >= self._policy.failure_ratio * len(self._calls)

    def _tell(self, before: BreakerState, after: BreakerState) -> None:
        if self._on_change is not None and before is not after:
            self._on_change(self.name, before, after)
