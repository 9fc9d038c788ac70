"""Capped exponential backoff with full jitter, and a budget that keeps retries from doubling the load.

Full jitter, `random(0, min(cap, base * 2**n))`, after AWS' "Exponential Backoff And Jitter": clients that failed
together do not come back together.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from rpa_core.clock import Clock
from rpa_core.waits import pause

T = TypeVar("T")
RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how far apart. `max_attempts` counts the first try too; 0 means no limit."""

    max_attempts: int = 5
    base_s: float = 0.1
    cap_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 0 or self.base_s <= 0 or self.cap_s <= 0:
            raise ValueError("a retry policy needs max_attempts >= 0, base_s > 0 and cap_s > 0")

    def bound_s(self, attempt: int) -> float:
        """The largest delay after failed attempt number `attempt` (from 1)."""
        doublings = min(max(attempt, 1) - 1, 62)  # beyond that the cap has long been reached
        return min(self.cap_s, self.base_s * 2.0**doublings)

    def delay_s(self, attempt: int, rand: random.Random) -> float:
        """A delay in [0, bound_s(attempt)], evenly spread."""
        return rand.uniform(0.0, self.bound_s(attempt))

    def exhausted(self, attempt: int) -> bool:
        """Whether attempt number `attempt` was the last one."""
        return self.max_attempts > 0 and attempt >= self.max_attempts


@dataclass(slots=True, kw_only=True)
class RetryBudget:
    """Allows `ratio` retries per first attempt, and `min_per_s` a second in any case; thread-safe.

    A token bucket: first attempts and time put in, retries take out. It holds at most `capacity` retries, so that
    a long good time does not pay for an endless bad one.
    """

    ratio: float
    min_per_s: float
    clock: Clock
    capacity: float = 100.0
    _tokens: float = field(init=False, default=0.0)
    _seen_s: float = field(init=False, default=0.0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1 or self.min_per_s < 0 or self.capacity < 1:
            raise ValueError("a retry budget needs 0 <= ratio <= 1, min_per_s >= 0 and capacity >= 1")
        self._tokens = min(self.capacity, max(1.0, self.min_per_s))
        self._seen_s = self.clock.monotonic()

    def record_attempts(self, count: int = 1) -> None:
        """Tell that `count` first attempts were made."""
        with self._lock:
            self._refill()
            self._tokens = min(self.capacity, self._tokens + self.ratio * count)

    def try_retry(self, count: int = 1) -> bool:
        """Take `count` retries out of the budget; False (and nothing taken) when it holds fewer."""
        with self._lock:
            self._refill()
            if self._tokens + 1e-9 < count:  # ten times 0.1 must make one
                return False
            self._tokens = max(0.0, self._tokens - count)
            return True

    def take(self, count: int) -> int:
        """Take up to `count` retries out of the budget; returns how many it held."""
        with self._lock:
            self._refill()
            taken = min(count, int(self._tokens + 1e-9))
            self._tokens = max(0.0, self._tokens - taken)
            return taken

    def _refill(self) -> None:
        now = self.clock.monotonic()
        self._tokens = min(self.capacity, self._tokens + (now - self._seen_s) * self.min_per_s)
        self._seen_s = now


def call(
    fn: Callable[[], T],
    policy: RetryPolicy,
    *,
    retry_on: RetryOn,
    stop: threading.Event,
    clock: Clock,
    rand: random.Random,
    on_retry: Callable[[int, float, BaseException], None] | None = None,
    deadline_s: float | None = None,
) -> T:
    """Call `fn` until it returns, fails for good, runs out of attempts or time, or `stop` is set.

    The last error is raised as it is, with a note of the attempts and the time spent. `on_retry(attempt, delay_s,
    error)` is told before each wait. `fn` may run more than once: it must be safe to repeat.
    """
    started = clock.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return fn()
        except Exception as error:
            delay = policy.delay_s(attempt, rand)
            elapsed = clock.monotonic() - started
            last = policy.exhausted(attempt) or (deadline_s is not None and elapsed + delay > deadline_s)
            if not _may_retry(error, retry_on) or last:
                _note(error, attempt, elapsed)
                raise
            if on_retry is not None:
                on_retry(attempt, delay, error)
            if pause(stop, delay):
                _note(error, attempt, clock.monotonic() - started)
                raise


def _may_retry(error: Exception, retry_on: RetryOn) -> bool:
    if isinstance(retry_on, type | tuple):
        return isinstance(error, retry_on)
    return retry_on(error)


def _note(error: Exception, attempts: int, elapsed_s: float) -> None:
    if attempts > 1:
        error.add_note(f"gave up after {attempts} attempts in {elapsed_s:.1f} s")
