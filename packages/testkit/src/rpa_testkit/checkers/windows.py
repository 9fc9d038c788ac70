"""When faults were there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from rpa_testkit.history.entries import Entry, Phase


@dataclass(slots=True, kw_only=True)
class FaultLife:
    """One fault: its phases with the time and line of each, in the order in which they came."""

    id: Any
    kind: str = "?"
    target: str = "?"
    why: str = ""
    at: dict[str, float] = field(default_factory=dict)
    seq: dict[str, int] = field(default_factory=dict)

    @property
    def ran(self) -> bool:
        """Whether it was begun: `not-run` was not."""
        return Phase.INJECT in self.at

    def first(self, *phases: str) -> float | None:
        """The time of the first of these phases that came."""
        return next((self.at[phase] for phase in phases if phase in self.at), None)

    def window(self, end: float) -> tuple[float, float]:
        """From its injection to its verified healing; to `end` if that never came."""
        return self.at[Phase.INJECT], self.at.get(Phase.HEALED, end)

    def __str__(self) -> str:
        return f"fault {self.id} ({self.kind} of {self.target})"


class FaultLog:
    """Fed with fault lines."""

    def __init__(self) -> None:
        self.lives: dict[Any, FaultLife] = {}

    def note(self, entry: Entry) -> None:
        """Take a fault's line."""
        life = self.lives.get(entry.key)
        if life is None:
            life = self.lives[entry.key] = FaultLife(id=entry.key)
        seen = entry.value or {}
        life.kind, life.target = seen.get("kind", life.kind), seen.get("target", life.target)
        life.why = str(seen.get("why", life.why))
        life.at[entry.op], life.seq[entry.op] = entry.t, entry.seq

    def ran(self) -> list[FaultLife]:
        """Those that were begun, in order of injection."""
        return sorted((life for life in self.lives.values() if life.ran), key=lambda life: life.at[Phase.INJECT])

    def cover(self, end: float, allowance_s: float = 0.0) -> Cover:
        """The time under faults, each one's window made longer by an allowance."""
        return Cover((a, b + allowance_s) for a, b in (life.window(end) for life in self.ran()))


class Cover:
    """A union of intervals that tells in O(log n) how much of another interval it covers."""

    def __init__(self, windows: Iterable[tuple[float, float]]) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        for start, end in sorted(windows):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)
        lengths = (end - start for start, end in zip(self._starts, self._ends, strict=True))
        self._before = [0.0, *accumulate(lengths)]

    def until(self, t: float) -> float:
        """How much is covered before `t`."""
        at = bisect_right(self._starts, t)
        return self._before[at] - max(0.0, self._ends[at - 1] - t) if at else 0.0

    def overlap(self, start: float, end: float) -> float:
        """How much is covered between `start` and `end`."""
        return self.until(end) - self.until(start) if self._starts else 0.0
