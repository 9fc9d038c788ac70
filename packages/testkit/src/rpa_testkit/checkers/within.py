"""Each record in its time."""

from __future__ import annotations

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants, steady
from rpa_testkit.checkers.lives import NEVER, Lives
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLog
from rpa_testkit.history.entries import Header, Kind


class Within:
    """From a record's enqueueing to its outcome, without the time under faults and `recovery_s` after each."""

    name = "within"
    about = "every record has its outcome within its stated time, faults and their recovery not counted"

    def __init__(self, header: Header) -> None:
        self._within_s = steady(header, "within_s", 30.0)
        self._recovery_s = steady(header, "recovery_s", 20.0)
        self._lives = Lives()
        self._faults = FaultLog()

    def wants(self) -> Wants:
        """Outcomes and faults."""
        return {(Kind.OUTCOME, "record"): self._lives.note, (Kind.FAULT, ANY): self._faults.note}

    def verdict(self, end: End) -> Verdict:
        """Only a life that is too long as a whole is held against the faults."""
        found, cover, lives = Findings(), self._faults.cover(end.t, self._recovery_s), self._lives
        took: list[float] = []
        excused = 0
        for at, (enqueued, done) in enumerate(zip(lives.enqueued, lives.done, strict=True)):
            if done == NEVER:
                continue
            life_s = done - enqueued
            took.append(life_s)
            if life_s <= self._within_s:
                continue
            counted_s = life_s - cover.overlap(enqueued, done)
            if counted_s <= self._within_s:
                excused += 1
                continue
            says = f"a record took {life_s:.1f} s, {counted_s:.1f} s of it without a fault"
            found.violation(f"{says}; the bound is {self._within_s:g} s", enqueued, lives.seq[at])
        took.sort()
        figures = {"records": len(took), "bound_s": self._within_s, "excused": excused}
        if took:
            shares = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99, "max_s": 1.0}
            figures |= {
                name: round(took[min(len(took) - 1, int(share * len(took)))], 6) for name, share in shares.items()
            }
        return found.verdict(self.name, f"{len(took)} records within {self._within_s:g} s", figures)
