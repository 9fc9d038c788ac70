"""What a checker is: handlers for the lines it asks for, and a verdict at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rpa_testkit.checkers.verdict import Evidence, Status, Verdict
from rpa_testkit.history.entries import Entry, Header

ANY = "*"
SHOWN = 5
"""So many violations are shown as evidence; all are counted."""

Handler = Callable[[Entry], None]
Wants = Mapping[tuple[str, str], Handler]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The history's end: the latest `t` seen, and when each mark was set (the first time)."""

    t: float
    marks: Mapping[str, float] = field(default_factory=dict)


class Checker(Protocol):
    """A pure function of the history, fed line by line. One value judges one history."""

    name: str
    about: str

    def __init__(self, header: Header) -> None:
        """Take from the header what the judgement is measured against."""

    def wants(self) -> Wants:
        """Handlers by (kind, op); op ANY stands for all of a kind, kind ANY for all lines."""
        ...

    def verdict(self, end: End) -> Verdict:
        """Called once, after the last line."""
        ...


class Findings:
    """Violations and doubts, counted; the first few of each are kept as evidence."""

    def __init__(self) -> None:
        self.violations = 0
        self.doubts = 0
        self._violations: list[Evidence] = []
        self._doubts: list[Evidence] = []

    def violation(self, says: str, t: float | None = None, *seq: int) -> None:
        """It does not hold."""
        self.violations += 1
        if self.violations <= SHOWN:
            self._violations.append(Evidence(says=says, t=t, seq=seq))

    def doubt(self, says: str, t: float | None = None, *seq: int) -> None:
        """It cannot be told whether it holds."""
        self.doubts += 1
        if self.doubts <= SHOWN:
            self._doubts.append(Evidence(says=says, t=t, seq=seq))

    def verdict(self, checker: str, passes: str, figures: Mapping[str, Any] | None = None) -> Verdict:
        """Fail with a violation, unknown with a doubt, otherwise pass, saying `passes`."""
        told = figures or {}
        if self.violations:
            says, shown = _summary(self._violations, self.violations), tuple(self._violations)
            found = self.violations
            return Verdict(checker=checker, status=Status.FAIL, says=says, found=found, evidence=shown, figures=told)
        if self.doubts:
            says, shown = _summary(self._doubts, self.doubts), tuple(self._doubts)
            return Verdict(checker=checker, status=Status.UNKNOWN, says=says, evidence=shown, figures=told)
        return Verdict(checker=checker, status=Status.PASS, says=passes, figures=told)


def _summary(shown: list[Evidence], count: int) -> str:
    return shown[0].says if count == 1 else f"{shown[0].says}; and {count - 1} more"


def steady(header: Header, name: str, default: float) -> float:
    """A number of the header's steady state."""
    return float(header.steady_state.get(name, default))
