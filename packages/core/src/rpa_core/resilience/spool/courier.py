"""Courier: delivers one kind of entries, each stream in order, for as long as it takes.

    head of a stream --deliver--> Delivered: acknowledged, the next one of the stream
                                  Later:     the stream waits, others go on; the breaker counts a failure
                                  Refused:   a dead letter, the next one of the stream

An open breaker pauses the kind as a whole and counts no tries. What was delivered and could not be acknowledged, on a
full disk, is remembered and acknowledged later; it is sent again only if the process dies first.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from rpa_core.clock import Clock, SystemClock
from rpa_core.resilience.breaker import BreakerState, CircuitBreaker, CircuitOpen
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.model import DeadEntry, Delivered, Entry, Later, Listener, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool
from rpa_core.waits import pause

logger = logging.getLogger("rpa.spool")
_IDLE_S = 2.0  # how often it looks by itself: for what another process put back, and what was adopted
_BREATH_S = 0.05  # between two rounds in which nothing could be delivered, however often it is woken
_BATCH = 32


class _PutOff(NamedTuple):
    failures: int  # in a row
    until: float
    firm: bool  # the other system said when


def _ignore(dead: DeadEntry) -> None:
    pass


class Courier:
    """One thread for one kind. `deliver` is called outside of any lock and never twice at a time.

    `spools` are given oldest first: a stream that goes on in a later one waits for the earlier.

    What `deliver` raises is logged and counts as Later. It may acknowledge entries itself, the following ones of the
    stream too. `breaker` must be the courier's own, not one that `deliver` passes again. `on_dead` is told of every
    dead letter of the kind, in whichever thread made it. With `policy.max_attempts` an entry that was put off so often
    becomes a dead letter. So does one whose delivery has ended the process `most_begun` times: each delivery is counted
    before it begins, and what counts is that it never came back.
    """

    def __init__(
        self,
        kind: str,
        spools: Callable[[], Sequence[Spool]],
        deliver: Callable[[Spool, Entry], Verdict],
        *,
        breaker: CircuitBreaker | None = None,
        policy: RetryPolicy | None = None,
        clock: Clock | None = None,
        rand: random.Random | None = None,
        on_dead: Callable[[DeadEntry], object] = _ignore,
        most_begun: int = 3,
    ) -> None:
        self._kind = kind
        self._spools = spools
        self._deliver = deliver
        self._breaker = breaker
        self._policy = policy or RetryPolicy(max_attempts=0, base_s=0.5, cap_s=30.0)
        self._clock = clock or SystemClock()
        self._rand = rand or random.Random()  # noqa: S311 - jitter
        self._most_begun = most_begun
        self._ended: dict[
            tuple[Spool, str], int
        ] = {}  # deliveries of an entry that had ended processes before this one
        self._under_way: tuple[Spool, Entry] | None = None
        self._listener = Listener(on_put=self.wake, on_dead=on_dead)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._flushing = threading.Condition()
        self._flushes_asked = 0
        self._flushes_done = 0
        self._put_off: dict[tuple[Spool, str], _PutOff] = {}  # by stream
        self._unacknowledged: set[tuple[Spool, str]] = set()
        self._thread = threading.Thread(target=self._run, name=f"courier {kind}", daemon=True)

    def start(self) -> None:
        """Begin to deliver. Once; also where nothing is to be delivered yet."""
        for spool in self._spools():
            spool.listen(self._kind, self._listener)
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Try everything that waits once more, at once; whether nothing waits any more.

        Returns before the time is over when each stream was emptied or put off again. A stream that the other system
        put off for a time that it named is left to that.
        """
        with self._flushing:
            self._flushes_asked += 1
            asked = self._flushes_asked
            self._wake.set()
            if self._thread.is_alive():
                self._flushing.wait_for(lambda: self._flushes_done >= asked or self._stop.is_set(), timeout_s)
        return not self._left()

    def finish(self, timeout_s: float) -> bool:
        """`flush`, and then what was put off again at its own pace; whether nothing waits any more.

        For the end of a life, whose last word must not fail for a moment's trouble. Returns before the time is over
        when the breaker opens, or when all that is left was put off for longer than that.
        """
        until = self._clock.monotonic() + timeout_s
        if self.flush(timeout_s):
            return True
        with self._flushing:
            self._flushing.wait_for(lambda: not self._may_deliver(until), until - self._clock.monotonic())
        return not self._left()

    def stop(self, timeout_s: float) -> None:
        """End the thread; a delivery that is under way has so long to come back."""
        self._stop.set()
        self._wake.set()
        with self._flushing:
            self._flushing.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        under_way = self._under_way
        if self._thread.is_alive() and under_way is not None:  # the process ends because it was asked to
            spool, entry = under_way
            with suppress(SpoolFull):
                spool.begin(entry._replace(begun=entry.begun + 1), entry.begun)

    def _left(self) -> bool:
        return any(spool.depth(self._kind).entries for spool in self._spools())

    def _may_deliver(self, until: float) -> bool:
        """Whether something waits that may be out of the way by then."""
        if self._stop.is_set() or not self._thread.is_alive():
            return False
        if self._breaker is not None and self._breaker.state is not BreakerState.CLOSED:
            return False
        put_off = tuple(self._put_off.values())  # the thread changes it
        return self._left() and (not put_off or any(each.until < until for each in put_off))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            asked = self._begin_flush()
            try:
                handled, waited = self._round()
                rest_s = 0.0 if handled and waited else self._rest_s()
            except Exception:
                # A courier that ends delivers nothing for ever.
                logger.exception("the courier of %s failed", self._kind, extra={"event.action": "spool.failed"})
                handled, rest_s = 0, _IDLE_S
            with self._flushing:
                self._flushes_done = asked
                self._flushing.notify_all()
            if not handled:
                pause(self._stop, _BREATH_S)
            self._wake.wait(rest_s)

    def _begin_flush(self) -> int:
        with self._flushing:
            if self._flushes_asked > self._flushes_done:
                self._put_off = {stream: each for stream, each in self._put_off.items() if each.firm}
            return self._flushes_asked

    def _round(self) -> tuple[int, bool]:
        """Deliver until every stream is empty or was put off once, spool by spool in turns.

        How many entries are out of the way, and whether any stream had to wait for its part in an older spool.
        """
        spools = self._spools()
        self._forget_all_but(spools)
        tried: dict[Spool, set[str]] = {spool: set() for spool in spools}
        handled, waited = 0, False
        while True:
            seen = 0
            for place, spool in enumerate(spools):
                spool.listen(self._kind, self._listener)
                for found in spool.heads(self._kind, _BATCH, without=self._waiting(spool) | tried[spool]):
                    # As it was when this process first saw it: what it notes itself does not count for it.
                    entry = found._replace(begun=self._ended.setdefault((spool, found.id), found.begun))
                    seen += 1
                    if any(older.waits(self._kind, entry.stream) for older in spools[:place]):
                        waited = True
                        tried[spool].add(entry.stream)
                    elif self._stop.is_set() or (self._breaker is not None and not self._breaker.allow()):
                        return handled, waited
                    elif self._handle(spool, entry, self._ask(spool, entry)):
                        handled += 1
                    else:
                        tried[spool].add(entry.stream)
            if not seen:
                return handled, waited

    def _rest_s(self) -> float:
        if self._breaker is not None and (after_s := self._breaker.retry_after_s()) > 0:
            return min(_IDLE_S, after_s)
        now = self._clock.monotonic()
        return max(0.0, min([_IDLE_S, *(each.until - now for each in self._put_off.values())]))

    def _forget_all_but(self, spools: Sequence[Spool]) -> None:
        self._put_off = {stream: each for stream, each in self._put_off.items() if stream[0] in spools}
        self._unacknowledged = {each for each in self._unacknowledged if each[0] in spools}
        self._ended = {each: count for each, count in self._ended.items() if each[0] in spools}

    def _waiting(self, spool: Spool) -> frozenset[str]:
        now = self._clock.monotonic()
        return frozenset(name for (of, name), each in self._put_off.items() if of is spool and each.until > now)

    def _ask(self, spool: Spool, entry: Entry) -> Verdict:
        if (spool, entry.id) in self._unacknowledged:
            return Delivered()
        if entry.begun >= self._most_begun:
            return Refused(f"its delivery ended the process {entry.begun} times: too large for the memory, or harmful")
        try:
            self._begin(spool, entry)
            return self._deliver(spool, entry)
        except CircuitOpen as error:
            return Later(str(error), after_s=error.retry_after_s)
        except Exception as error:
            logger.exception("delivering %s failed", entry.id, extra={"event.action": "spool.deliver_failed"})
            return Later(f"{type(error).__name__}: {error}")
        finally:
            self._under_way = None

    def _begin(self, spool: Spool, entry: Entry) -> None:
        self._under_way = spool, entry
        spool.begin(entry, entry.begun + 1)

    def _handle(self, spool: Spool, entry: Entry, verdict: Verdict) -> bool:
        """Whether the entry is out of the way; if not, its stream waits."""
        if self._breaker is not None:
            if isinstance(verdict, Later):
                self._breaker.failed()
            else:
                self._breaker.succeeded()
        try:
            if isinstance(verdict, Delivered):
                self._unacknowledged.add((spool, entry.id))
                spool.acknowledge(entry.id)
                self._unacknowledged.discard((spool, entry.id))
            elif isinstance(verdict, Refused):
                spool.bury(entry, verdict.reason)
            elif self._policy.exhausted(entry.tries + 1):
                spool.bury(entry, f"put off {entry.tries + 1} times, the last time because: {verdict.why}")
            else:
                self._defer(spool, entry, verdict)
                spool.put_off(entry)
                return False
        except SpoolFull as error:
            self._defer(spool, entry, Later(str(error)))
            return False
        self._put_off.pop((spool, entry.stream), None)
        self._ended.pop((spool, entry.id), None)
        return True

    def _defer(self, spool: Spool, entry: Entry, verdict: Later) -> None:
        stream = spool, entry.stream
        failures = self._put_off[stream].failures + 1 if stream in self._put_off else 1
        after_s = verdict.after_s if verdict.after_s is not None else self._policy.delay_s(failures, self._rand)
        extra = {"event.action": "spool.put_off", "event.reason": verdict.why}
        logger.info("%s %s is put off for %.1f s: %s", self._kind, entry.id, after_s, verdict.why, extra=extra)
        until = self._clock.monotonic() + after_s
        self._put_off[stream] = _PutOff(failures, until, verdict.after_s is not None)
