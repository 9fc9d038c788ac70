"""One direction of one connection: bytes from a source to a sink, in order, delayed or held as the lane's rule says."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from rpa_testkit.proxy.lane import Lane

_EOF = b""
_RESET = None
Item = bytes | None


class Pipe:
    """Starts without a sink: what comes is held until there is one."""

    def __init__(self, lane: Lane, draws: Callable[[], random.Random], on_end: Callable[[Item], None]) -> None:
        """`draws` gives the generator of this pipe's jitter; `on_end` is told of the EOF (b"") or reset (None)."""
        self.lane = lane
        self.source: asyncio.Transport | None = None
        self.ended = False
        """Whether EOF or a reset was delivered, or there is nobody to deliver to any more."""
        self._sink: asyncio.Transport | None = None
        self._blocked = False  # the sink takes no more for now
        self._late = False
        self._open = False  # neither of these stands in the way
        self._draws = draws
        self._random: random.Random | None = None
        self._on_end = on_end
        self._held: deque[tuple[float, Item]] = deque()
        self.held_bytes = 0
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def feed(self, data: bytes) -> None:
        """Bytes from the source."""
        if self._open and self._sink is not None and self.lane.plain and not self._held:
            self.lane.passed += len(data)
            self._sink.write(data)
        else:
            self._hold(data)

    def feed_unseen(self, data: bytes) -> None:
        """The same for what has been shown to the lane's watch already."""
        self._queue(data)

    def feed_eof(self) -> None:
        """The source sends no more."""
        self._hold(_EOF)

    def feed_reset(self) -> None:
        """The source was reset. Behind a stall what it had sent is lost: its kernel does not send it again."""
        if self.lane.rule.stall:
            self._drop()
        self._hold(_RESET)

    def attach(self, sink: asyncio.Transport) -> None:
        """The sink is there."""
        self._sink = sink
        self._decide()
        self.pump()

    def end(self) -> None:
        """There is nobody to deliver to any more: what is held and what comes is dropped."""
        self.ended = True
        self._decide()
        self._drop()
        if self.source is not None:
            self.source.resume_reading()  # else nobody would see its end

    def block(self, blocked: bool) -> None:
        """Whether the sink's buffer is full."""
        self._blocked = blocked
        self._decide()
        self.pump()

    def delay_all(self, delay_s: float) -> None:
        """Hold everything for `delay_s`, whatever the rule; it is counted as late."""
        self._not_before = self._loop.time() + delay_s
        self._late = True
        self._decide()

    def pump(self) -> None:
        """Deliver what may go now."""
        lane = self.lane
        while self._held and self._sink is not None and not (self._blocked or lane.rule.stall or self.ended):
            due, item = self._held[0]
            due = max(self._not_before, 0.0 if lane.plain else due)
            if due > self._loop.time():
                self._wake_at(due)
                break
            if item and lane.rule.bytes_per_s:
                lane.queue(self)
                break
            self._held.popleft()
            if item:
                self._pass(item)
            else:
                self._finish(item)
        self._regulate()

    def send(self, limit: int) -> int:
        """Called by the lane when it is this pipe's turn on the line."""
        if not self._held or self._blocked or self.ended:
            return 0
        due, item = self._held.popleft()
        if not item:
            self._held.appendleft((due, item))
            return 0
        if len(item) > limit:
            self._held.appendleft((due, item[limit:]))
            item = item[:limit]
        self._pass(item)
        return len(item)

    def _pass(self, data: bytes) -> None:
        assert self._sink is not None
        self._count(-len(data))
        self.lane.passed += len(data)
        if self._late:
            self.lane.late += len(data)
        self._sink.write(data)

    def _finish(self, item: Item) -> None:
        self.ended = True
        self._decide()
        self._drop()
        self._on_end(item)

    def _hold(self, item: Item) -> None:
        if self.ended or (item and self.lane.watch is not None and self.lane.watch(self, item)):
            return
        self._queue(item)

    def _queue(self, item: Item) -> None:
        # Whoever comes due before the one ahead of him waits for that one: the order of bytes stays.
        self._held.append((self._loop.time() + self._delay_s(), item))
        self._count(len(item or b""))
        self.pump()

    def _delay_s(self) -> float:
        rule = self.lane.rule
        delay_s = rule.latency_s
        if rule.jitter_s:
            if self._random is None:
                self._random = self._draws()
            delay_s += rule.jitter_s * self._random.random()
        self.lane.delayed_s += delay_s
        return delay_s

    def _decide(self) -> None:
        self._open = not (self._blocked or self._late or self.ended)

    def _count(self, size: int) -> None:
        self.held_bytes += size
        self.lane.held += size

    def _drop(self) -> None:
        self._held.clear()
        self._count(-self.held_bytes)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _regulate(self) -> None:
        if self.source is None or self.ended:
            return
        if self._blocked or self.held_bytes >= self.lane.limit:
            self.source.pause_reading()
        elif self.held_bytes < self.lane.limit // 2:
            self.source.resume_reading()

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.pump()
