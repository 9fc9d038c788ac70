"""The faults met work: a fault in an idle system proves nothing."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants
from rpa_testkit.checkers.lives import Lives
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLife, FaultLog
from rpa_testkit.history.entries import Entry, Header, Kind, Phase


class Overlap:
    """In each fault's time some record was enqueued and unfinished; and something was acknowledged at all."""

    name = "overlap"
    about = "every fault struck while there was work, and some work was acknowledged"

    def __init__(self, header: Header) -> None:
        self._faults = FaultLog()
        self._lives = Lives()
        self._acknowledged = 0

    def wants(self) -> Wants:
        """Faults, acknowledgements and outcomes."""
        return {
            (Kind.FAULT, ANY): self._faults.note,
            (Kind.OK, ANY): self._ok,
            (Kind.OUTCOME, "record"): self._lives.note,
        }

    def _ok(self, entry: Entry) -> None:
        self._acknowledged += 1

    def verdict(self, end: End) -> Verdict:
        """A record was alive in a window if it came before the window's end and was done after its beginning."""
        found = Findings()
        windows = sorted(((*_struck(life, end.t), life) for life in self._faults.ran()), key=lambda window: window[1])
        ends = [heal for _, heal, _ in windows]
        latest = [float("-inf")] * (len(ends) + 1)
        for enqueued, done in zip(self._lives.enqueued, self._lives.done, strict=True):
            slot = bisect_right(ends, enqueued)  # the first window that ends after it came
            if done > latest[slot]:
                latest[slot] = done
        for (injected, heal, life), done in zip(windows, accumulate(latest, max), strict=False):
            if done <= injected:
                seqs = tuple(life.seq.values())
                found.doubt(
                    f"{life} struck when nothing was unfinished, {injected:.1f} to {heal:.1f} s", injected, *seqs
                )
        missed = found.doubts
        if not self._acknowledged:
            found.doubt("not one operation was acknowledged")
        figures = {"faults": len(windows), "without_work": missed, "acknowledged_batches": self._acknowledged}
        return found.verdict(self.name, f"each of {len(windows)} faults struck while there was work", figures)


def _struck(life: FaultLife, end: float) -> tuple[float, float]:
    start = life.first(Phase.INJECTED, Phase.INJECT)
    stop = life.first(Phase.HEAL, Phase.HEALED)
    return end if start is None else start, end if stop is None else stop
