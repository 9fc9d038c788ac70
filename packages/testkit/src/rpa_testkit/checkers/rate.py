"""The pace over the whole run."""

from __future__ import annotations

from rpa_testkit.checkers.checker import End, Findings, Wants, steady
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind


class Rate:
    """Records with an outcome, by the seconds from the beginning to the last of them."""

    name = "rate"
    about = "the run's throughput is at least what the scenario states"

    def __init__(self, header: Header) -> None:
        self._least = steady(header, "min_rate", 0.0)
        self._finished = 0
        self._last = 0.0

    def wants(self) -> Wants:
        """Outcomes."""
        return {(Kind.OUTCOME, "record"): self._outcome}

    def _outcome(self, entry: Entry) -> None:
        results, _, dead, _, _, _, _, done = entry[6]
        if done is not None and results + dead:
            self._finished += 1
            if done > self._last:
                self._last = done

    def verdict(self, end: End) -> Verdict:
        """Judged only where a minimum is stated."""
        found = Findings()
        took_s = self._last - end.marks.get("begun", 0.0)
        rate = self._finished / took_s if took_s > 0 else 0.0
        if rate < self._least:
            found.violation(f"{rate:.1f} records/s, at least {self._least:g} are asked for", self._last)
        figures = {"records": self._finished, "seconds": round(took_s, 3), "records_per_s": round(rate, 3)}
        return found.verdict(self.name, f"{rate:.1f} records/s", {**figures, "least_per_s": self._least})
