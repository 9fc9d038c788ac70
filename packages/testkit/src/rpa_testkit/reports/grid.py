"""What is kept per moment. The intervals grow with the run, so that there are never more than `LIMIT` of them.

Nothing is left out for it: two neighbours are merged into one that holds both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

LIMIT = 600
_FINEST_S = 0.25
_STEP = math.log(1.02)  # neighbouring bins of a histogram differ by 2 %: a percentile is within 1 %
_LEAST_S = 1e-6

Value = TypeVar("Value")
Merge = Callable[[Value, Value], Value]


def bin_of(latency_s: float) -> int:
    """The histogram's bin of a latency."""
    return math.ceil(math.log(latency_s if latency_s > _LEAST_S else _LEAST_S) / _STEP)


def percentile(bins: Mapping[int, int], share: float) -> float | None:
    """The latency in seconds that `share` (0 to 1) of those counted do not exceed; None of none."""
    total = sum(bins.values())
    wanted, seen = max(1, math.ceil(share * total)), 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= wanted:
            return math.exp((number - 0.5) * _STEP)
    return None


class Layer(dict[int, Value]):
    """One thing kept per interval; intervals without it are absent."""

    def __init__(self, merge: Merge[Value]) -> None:
        super().__init__()
        self.merge = merge

    def halve(self) -> None:
        """Make two neighbouring intervals one."""
        merged: dict[int, Value] = {}
        for place, value in sorted(self.items()):
            half = place // 2
            merged[half] = self.merge(merged[half], value) if half in merged else value
        self.clear()
        self.update(merged)

    def put(self, place: int, value: Value) -> None:
        """Merge one value in."""
        self[place] = self.merge(self[place], value) if place in self else value


def added(one: float, other: float) -> float:
    """Both together."""
    return one + other


def later(one: float, other: float) -> float:
    """The one that came last."""
    return other


def together(one: Counter[int], other: Counter[int]) -> Counter[int]:
    """Two histograms as one."""
    one.update(other)
    return one


class Grid:
    """Intervals from 0 on, all of one width, and the layers over them."""

    def __init__(self) -> None:
        self.width_s = _FINEST_S
        self.end_s = _FINEST_S * LIMIT
        self._layers: list[Layer] = []  # type: ignore[type-arg]  # of whatever each layer keeps

    def layer(self, merge: Merge[Value]) -> Layer[Value]:
        """A new layer."""
        made: Layer[Value] = Layer(merge)
        self._layers.append(made)
        return made

    def place(self, t: float) -> int:
        """The interval of a time; what came before 0 belongs to the first."""
        while t >= self.end_s:
            self.coarsen()
        return int(t / self.width_s) if t > 0 else 0

    def coarsen(self) -> None:
        """Double the intervals' width."""
        self.width_s *= 2
        self.end_s *= 2
        for layer in self._layers:
            layer.halve()
