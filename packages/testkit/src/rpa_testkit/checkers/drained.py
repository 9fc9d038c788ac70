"""The run came to its end by itself."""

from __future__ import annotations

from rpa_testkit.checkers.checker import End, Findings, Wants, steady
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind


class Drained:
    """Every record had its outcome within `drain_s` of the last healing, or of the last enqueue if that came later."""

    name = "drained"
    about = "after the last healing everything is finished within its bound"

    def __init__(self, header: Header) -> None:
        self._within_s = steady(header, "drain_s", 60.0)
        self._seq: dict[str, int] = {}

    def wants(self) -> Wants:
        """Both ways a drain ends."""
        return {(Kind.MARK, "drained"): self._mark, (Kind.MARK, "not-drained"): self._mark}

    def _mark(self, entry: Entry) -> None:
        self._seq[entry.op] = entry.seq

    def verdict(self, end: End) -> Verdict:
        """From the marks."""
        found, marks = Findings(), end.marks
        since = max((marks[mark] for mark in ("healed", "workload-done") if mark in marks), default=None)
        figures: dict[str, float] = {"bound_s": self._within_s}
        if "not-drained" in marks:
            found.violation("the run was not drained", marks["not-drained"], self._seq["not-drained"])
        elif "drained" not in marks or since is None:
            found.doubt("whether the run drained was not noted")
        else:
            took_s = marks["drained"] - since
            figures["drain_s"] = round(took_s, 3)
            if took_s > self._within_s:
                says = f"drained after {took_s:.1f} s, the bound is {self._within_s:g} s"
                found.violation(says, marks["drained"], self._seq["drained"])
        return found.verdict(self.name, f"drained in {figures.get('drain_s', 0.0):.1f} s", figures)
