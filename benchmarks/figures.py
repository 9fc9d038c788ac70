"""What a measurement gives: figures, each with its samples and, where one is set, its bar."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a value must reach: at least, or at most, `limit`."""

    sense: Literal["at least", "at most"]
    limit: float

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.limit if self.sense == "at least" else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value in `unit`; `note` says in a line how it was come by, `details` carries what explains it."""

    name: str
    value: float
    unit: str
    bar: Bar | None = None
    samples: Sequence[float] = ()
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.bar.met(self.value)

    def report(self) -> dict[str, Any]:
        """The figure as JSON."""
        return asdict(self) | {"samples": list(self.samples), "ok": self.ok}


def at_least(limit: float) -> Bar:
    """More is better."""
    return Bar(sense="at least", limit=limit)


def at_most(limit: float) -> Bar:
    """Less is better."""
    return Bar(sense="at most", limit=limit)


def of(
    name: str, samples: Sequence[float], unit: str, bar: Bar | None = None, *, note: str = "", **details: Any
) -> Figure:
    """The median of `samples` as a figure."""
    return Figure(
        name=name,
        value=statistics.median(samples),
        unit=unit,
        bar=bar,
        samples=tuple(samples),
        note=note,
        details=details,
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]
