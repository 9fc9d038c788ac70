"""The state of every serial, one byte each; a batch changes by one translation of its slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rpa_testkit.checkers.checker import Handler, Wants
from rpa_testkit.history.entries import Entry, Kind

INVOKED = 1
OPEN = 2  # invoked, and the answer has not come
ACKED = 4
MAYBE = 8  # an answer never came, or said that it cannot be known
FAILED = 16
PLACED = 32  # has a result or a dead letter
PENDING = 64  # is in an unfinished chunk

_MOST = 1 << 28


def _table(change: Callable[[int], int]) -> bytes:
    return bytes(change(state) for state in range(256))


_ANSWERS = {
    Kind.INVOKE: _table(lambda state: state | INVOKED | OPEN),
    Kind.OK: _table(lambda state: (state | ACKED) & ~OPEN),
    Kind.FAIL: _table(lambda state: (state | FAILED) & ~OPEN),
    Kind.INFO: _table(lambda state: (state | MAYBE) & ~OPEN),
}
_OPEN_STATES = bytes(state for state in range(256) if state & OPEN)


class Serials:
    """Fed with invoke, ok, fail and info lines; `states` is indexed by serial."""

    def __init__(self) -> None:
        self.states = bytearray()

    def note(self, entry: Entry) -> bool:
        """Take an enqueue's line; False for an answer to what was not asked."""
        first, stop = entry.key, entry.key + entry.value
        if first < 0 or entry.value < 0 or stop > _MOST:
            raise ValueError(f"serials {first} to {stop - 1} are not between 0 and {_MOST - 1}")
        if stop > len(self.states):
            self.states.extend(bytes(stop - len(self.states)))
        part = self.states[first:stop]
        self.states[first:stop] = part.translate(_ANSWERS[Kind(entry.kind)])
        return entry.kind == Kind.INVOKE or not part.translate(None, _OPEN_STATES)

    def get(self, serial: object) -> int:
        """The state of what may be a serial; 0 for what was never invoked."""
        if type(serial) is int and 0 <= serial < len(self.states):
            return self.states[serial]
        return 0

    def count(self, holds: Callable[[int], bool]) -> int:
        """How many serials are in a state for which it holds."""
        return sum(self.states.count(state) for state in range(256) if holds(state))

    def where(self, holds: Callable[[int], bool]) -> Iterator[int]:
        """The serials in such states, in order."""
        found = self.states.translate(_table(lambda state: int(holds(state))))
        at = found.find(1)
        while at >= 0:
            yield at
            at = found.find(1, at + 1)


def enqueues(handler: Handler) -> Wants:
    """One handler for all four of an enqueue's lines."""
    return {(kind, "enqueue"): handler for kind in _ANSWERS}


def acknowledged(state: int) -> bool:
    """Whether an `ok` was seen: it must be there."""
    return bool(state & ACKED)


def possible(state: int) -> bool:
    """Whether it may be there: acknowledged, unknown, or never answered."""
    return bool(state & (ACKED | MAYBE | OPEN))
