"""The pace of the work, from the samples of a run."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

from rpa_testkit.history.entries import Entry

WINDOW_S = 1.0
BASELINE_S = 10.0
_NEARLY = 0.95  # samples are not taken to the millisecond


class Pace:
    """Fed with samples; those in which the database did not answer are passed over."""

    def __init__(self) -> None:
        self.t = array("d")
        self.finished = array("q")
        self.waiting = array("q")
        self.leased = array("q")

    def note(self, entry: Entry) -> None:
        """Take a sample's line."""
        value = entry.value
        done, waiting, leased = value.get("done"), value.get("waiting"), value.get("leased")
        if done is None or waiting is None or leased is None:
            return
        self.t.append(entry.t)
        self.finished.append(done + (value.get("dead") or 0))
        self.waiting.append(waiting)
        self.leased.append(leased)

    def left(self, at: int) -> int:
        """Records without an outcome at a sample."""
        return self.waiting[at] + self.leased[at]

    def window(self, at: int) -> int | None:
        """The sample at which the window that begins at `at` ends; None if there is none."""
        end = bisect_left(self.t, self.t[at] + WINDOW_S * _NEARLY, at + 1)
        return end if end < len(self.t) else None

    def rate(self, start: int, end: int) -> float:
        """Records finished per second between two samples."""
        return (self.finished[end] - self.finished[start]) / (self.t[end] - self.t[start])

    def arrivals(self, start: int, end: int) -> float:
        """Records that came per second between two samples."""
        came = self.finished[end] + self.left(end) - self.finished[start] - self.left(start)
        return came / (self.t[end] - self.t[start])

    def baseline(self, quiet: Sequence[tuple[float, float]]) -> float | None:
        """The median pace in the last of these undisturbed times; None without a window in which work was done.

        The latest BASELINE_S before the last one's end are looked at first, then all.
        """
        if not quiet:
            return None
        latest = quiet[-1][1] - BASELINE_S
        recent = [(max(start, latest), end) for start, end in quiet if end > latest]
        for times in (recent, quiet):
            rates = [rate for start, end in times for rate in self._rates(start, end)]
            if rates and median(rates) > 0:
                return median(rates)
        return None

    def _rates(self, start: float, end: float) -> list[float]:
        rates = []
        for at in range(bisect_left(self.t, start), bisect_left(self.t, end)):
            stop = self.window(at)
            if stop is not None and self.t[stop] <= end:
                rates.append(self.rate(at, stop))
        return rates
