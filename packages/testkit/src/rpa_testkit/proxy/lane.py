"""One direction of an edge: its rule, the bandwidth that its connections share, and what has passed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

from rpa_testkit.proxy.rules import Rule

_FREE = Rule()
_PIECE_S = 0.02  # a piece occupies the line for so long at most, that others get their turn
_CATCH_UP_S = 0.05  # a timer that fired late is made up for, up to so much
_DELAYED_BYTES = 4 << 20  # like a window over a long line
_HELD_BYTES = 256 << 10  # like the socket buffers of two hosts that do not reach each other


class Sender(Protocol):
    """A pipe waiting for its turn on the line."""

    def send(self, limit: int) -> int:
        """Pass on up to `limit` bytes; how many there were."""
        ...

    def pump(self) -> None:
        """Go on with what may go now."""
        ...


class Lane:
    """Shared by all pipes of an edge in one direction."""

    def __init__(self, toward: Literal["server", "client"]) -> None:
        self.toward = toward
        self.rule = _FREE
        self.plain = True
        """Whether bytes just pass."""
        self.watch: Callable[[Sender, bytes], bool] | None = None
        """Shown every piece before it goes on; True keeps it back."""
        self.passed = 0
        self.held = 0
        self.late = 0
        self.delayed_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Sender] = deque()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._serving = False

    @property
    def limit(self) -> int:
        """Bytes that a pipe takes in before it stops reading."""
        return _HELD_BYTES if self.rule.stall or self.rule.bytes_per_s else _DELAYED_BYTES

    def set_rule(self, rule: Rule) -> None:
        """From now on; the pipes are to be pumped afterwards."""
        self.rule = rule if rule.covers(self.toward) else _FREE
        self._decide()
        self._waiting.clear()
        self._free_at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set_watch(self, watch: Callable[[Sender, bytes], bool] | None) -> None:
        """Show every piece to `watch`, or to nobody any more."""
        self.watch = watch
        self._decide()

    def _decide(self) -> None:
        rule = self.rule
        busy = rule.latency_s or rule.jitter_s or rule.bytes_per_s or rule.stall
        self.plain = not busy and self.watch is None

    def queue(self, pipe: Sender) -> None:
        """Give the pipe its turn on the line, after those that wait already."""
        if not self._waiting and not self._serving and self._timer is None:
            self._free_at = max(self._free_at, self._loop.time())  # an idle line saves nothing up
        if pipe not in self._waiting:
            self._waiting.append(pipe)
        self._serve()

    def _serve(self) -> None:
        if self._serving or self._timer is not None:
            return
        self._serving = True
        try:
            while self._waiting and self.rule.bytes_per_s:
                now = self._loop.time()
                if self._free_at > now:
                    self._timer = self._loop.call_at(self._free_at, self._on_time)
                    return
                pipe = self._waiting.popleft()
                rate = self.rule.bytes_per_s
                sent = pipe.send(max(1, min(16384, int(rate * _PIECE_S))))
                self._free_at = max(self._free_at, now - _CATCH_UP_S) + sent / rate
                pipe.pump()  # joins the row again, at its end
        finally:
            self._serving = False

    def _on_time(self) -> None:
        self._timer = None
        self._serve()
