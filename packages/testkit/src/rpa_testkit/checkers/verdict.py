"""Verdicts: pass, fail, unknown. Unknown is not passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a judgement ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was seen: when (seconds since the run began, None if it has no time), what, and the lines' seq."""

    says: str
    t: float | None = None
    seq: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one checker says. `found` counts violations, `evidence` shows the first of them."""

    checker: str
    status: Status
    says: str
    found: int = 0
    evidence: tuple[Evidence, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Judgement:
    """All checkers' verdicts on one history. The worst decides: fail, then unknown, then pass."""

    run_id: str
    verdicts: tuple[Verdict, ...]

    @property
    def status(self) -> Status:
        """The worst of all; without a single verdict, unknown."""
        return worst(verdict.status for verdict in self.verdicts)

    def __repr__(self) -> str:
        """Short: it stands in messages of failed assertions."""
        others = "; ".join(f"{v.checker} {v.status}: {v.says}" for v in self.verdicts if v.status is not Status.PASS)
        return f"<{self.status}{f' ({others})' if others else ''} of {len(self.verdicts)} checkers on {self.run_id}>"

    @property
    def passed(self) -> bool:
        """Whether every checker passed."""
        return self.status is Status.PASS


def worst(statuses: Iterable[Status]) -> Status:
    """Fail over unknown over pass; unknown for nothing at all."""
    seen = set(statuses)
    if Status.FAIL in seen:
        return Status.FAIL
    return Status.UNKNOWN if Status.UNKNOWN in seen or not seen else Status.PASS
