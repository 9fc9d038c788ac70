"""CircuitBreaker: nobody knocks at a door that was found closed, until it is time to look again.

    closed     calls go through; those of the last `window_s` seconds are counted
    open       calls are refused at once, for a time that doubles with every failed look, with jitter
    half-open  one call goes through, the look: its success closes the breaker, its failure opens it again

What ends late is taken for what it says. A success closes the breaker whenever it comes, for the dependency answered.
A failure while the breaker is open began before it opened and says nothing new. A look that is never heard of again
(its thread hangs, or ended without a word) counts as failed after `look_s`.

A breaker holds no thread and no timer: `open` becomes `half-open` when somebody asks after the time is over, so whoever
waits does it by `wait_turn`. It knows nothing of what it guards, and a process that dies leaves nothing behind.
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

_MOST_CALLS = 1000  # of the newest calls decide, however many the window holds
_GLANCE_S = 0.1  # how soon a waiting thread sees that it shall stop: it cannot wait for two things at once


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
    upper half. A look that takes longer than `look_s` is given up: the next one may begin.
    """

    window_s: float = 10.0
    min_calls: int = 5
    failure_ratio: float = 0.5
    open_s: float = 0.5
    open_cap_s: float = 30.0
    look_s: float = 60.0

    def __post_init__(self) -> None:
        if self.window_s <= 0 or not 1 <= self.min_calls <= _MOST_CALLS or not 0 < self.failure_ratio <= 1:
            raise ValueError(
                f"a breaker needs window_s > 0, min_calls from 1 to {_MOST_CALLS} and 0 < failure_ratio <= 1"
            )
        if not 0 < self.open_s <= self.open_cap_s or self.look_s <= 0:
            raise ValueError("a breaker needs 0 < open_s <= open_cap_s and look_s > 0")


class CircuitBreaker:
    """One dependency's breaker; shared by all threads that use the dependency.

    `on_change(name, before, after)` is told of every change of state, in their order, outside the breaker's lock and
    on the thread that made the change or the one before it; it must be quick and must not raise.
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
        self._bad = 0
        self._openings = 0
        self._turn_at = 0.0  # open: when to look; half-open: when the look is given up
        self._untold: deque[tuple[BreakerState, BreakerState]] = deque()
        self._telling = threading.RLock()  # a listener may use the breaker

    @property
    def state(self) -> BreakerState:
        """As it is now; an open breaker whose time is over still says `open` until somebody asks."""
        return self._state

    def retry_after_s(self) -> float:
        """Seconds until a call may go through, if nothing changes before; 0 if one may now."""
        with self._changed:
            return self._turn_in_s()

    def allow(self) -> bool:
        """Whether a call may be made now. Who gets True must tell its end by `succeeded` or `failed`."""
        with self._changed:
            if self._state is BreakerState.CLOSED:
                return True
            now = self._clock.monotonic()
            if now < self._turn_at:
                return False
            self._turn_at = now + self._policy.look_s
            self._enter(BreakerState.HALF_OPEN)
        self._tell()
        return True

    def succeeded(self) -> None:
        """A call went well."""
        with self._changed:
            if self._state is BreakerState.CLOSED:
                self._note(True)
                return
            self._openings = self._bad = 0
            self._calls.clear()
            self._enter(BreakerState.CLOSED)
        self._tell()

    def failed(self) -> None:
        """A call failed in a way that says that the dependency is away."""
        with self._changed:
            if self._state is BreakerState.OPEN:
                return
            if self._state is BreakerState.CLOSED:
                self._note(False)
                if not self._too_many():
                    return
            self._openings += 1
            pause_s = self._pauses.bound_s(self._openings) * self._rand.uniform(0.5, 1.0)
            self._turn_at = self._clock.monotonic() + pause_s
            self._enter(BreakerState.OPEN)
        self._tell()

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
        except Exception:
            self.succeeded()  # it answered, if not with what was hoped for
            raise
        except BaseException:  # broken off from our side: nothing is known of the other
            self.failed()
            raise
        self.succeeded()

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until it closes, at most so long; whether it is closed. Somebody else must look meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is BreakerState.CLOSED, timeout_s)

    def wait_turn(self, timeout_s: float, stop: threading.Event | None = None) -> bool:
        """Wait until a call may go through, at most so long and not beyond `stop`; whether one may.

        All who wait wake as soon as it closes. When it is time to look, all wake too, and `allow` picks one.
        """
        deadline = self._clock.monotonic() + timeout_s
        with self._changed:
            while (turn_in_s := self._turn_in_s()) > 0:
                left_s = deadline - self._clock.monotonic()
                if left_s <= 0 or (stop is not None and stop.is_set()):
                    return False
                self._changed.wait(min(turn_in_s, left_s) if stop is None else min(turn_in_s, left_s, _GLANCE_S))
            return True

    def _turn_in_s(self) -> float:
        if self._state is BreakerState.CLOSED:
            return 0.0
        return max(0.0, self._turn_at - self._clock.monotonic())

    def _note(self, good: bool) -> None:
        now = self._clock.monotonic()
        self._calls.append((now, good))
        self._bad += not good
        while len(self._calls) > _MOST_CALLS or now - self._calls[0][0] > self._policy.window_s:
            self._bad -= not self._calls.popleft()[1]

    def _too_many(self) -> bool:
        calls = len(self._calls)
        return calls >= self._policy.min_calls and self._bad >= self._policy.failure_ratio * calls

    def _enter(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        if before is not state:
            self._untold.append((before, state))
            self._changed.notify_all()

    def _tell(self) -> None:
        """In order: who comes while another tells leaves it to him, or waits for its turn."""
        with self._telling:
            while self._untold:
                before, after = self._untold.popleft()
                if self._on_change is not None:
                    self._on_change(self.name, before, after)
