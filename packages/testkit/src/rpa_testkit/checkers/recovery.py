"""After a fault is healed, work goes on at the pace before it, within a bound."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants, steady
from rpa_testkit.checkers.pace import WINDOW_S, Pace
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLife, FaultLog
from rpa_testkit.history.entries import Header, Kind, Phase


@dataclass(slots=True, kw_only=True)
class _Group:
    """Faults that overlap, or of which the next came before work went on: judged from the last healing."""

    start: float
    healed: float
    faults: list[FaultLife] = field(default_factory=list)
    baseline: float | None = None


class Recovery:
    """How long after the healing the pace is back, or nothing is left to do."""

    name = "recovery"
    about = "after each fault work is back at its pace within its bound"

    def __init__(self, header: Header) -> None:
        self._within_s = steady(header, "recovery_s", 20.0)
        self._share = steady(header, "recovered_share", 0.9)
        self._faults = FaultLog()
        self._pace = Pace()

    def wants(self) -> Wants:
        """Faults and samples."""
        return {(Kind.FAULT, ANY): self._faults.note, (Kind.METRIC, "sample"): self._pace.note}

    def verdict(self, end: End) -> Verdict:
        """One group of faults after the other."""
        found = Findings()
        groups = self._groups(end, found)
        told: list[dict[str, Any]] = []
        quiet: list[tuple[float, float]] = []
        since = end.marks.get("begun", 0.0)
        while groups:
            group = groups.pop(0)
            if group.baseline is None and group.start > since:
                quiet = [*(time for time in quiet if time[0] != since), (since, group.start)]
                group.baseline = self._pace.baseline(quiet)
            if group.baseline is None:
                group.baseline = self._early(group, end)
            until = groups[0].start if groups else float("inf")
            back = self._back(group, until)
            if back is None and groups and until - group.healed <= self._within_s:
                # The next fault came first: what is measured after it is both faults' recovery.
                groups[0].faults[:0] = group.faults
                groups[0].start, groups[0].baseline = group.start, group.baseline
                continue
            told += self._told(group, back, until, end, found)
            since = group.healed if back is None else back
        times = sorted(fault["recovery_s"] for fault in told if fault["recovery_s"] is not None)
        figures: dict[str, Any] = {"bound_s": self._within_s, "faults": told}
        if times:
            figures |= {"p50_s": times[len(times) // 2], "max_s": times[-1]}
        says = "nothing to recover from"
        if told:
            says = f"work went on within {figures.get('max_s', 0.0):.1f} s of each healing"
        return found.verdict(self.name, says, figures)

    def _early(self, group: _Group, end: End) -> float | None:
        """For what came before any undisturbed second: the pace up to here, faults and all, or after all faults."""
        last = max(life.window(end.t)[1] for life in self._faults.ran())
        told_by = [self._pace.baseline([(0.0, group.healed)]), self._pace.baseline([(last, end.t)])]
        return max((pace for pace in told_by if pace is not None), default=None)

    def _groups(self, end: End, found: Findings) -> list[_Group]:
        groups: list[_Group] = []
        for life in self._faults.ran():
            start, healed = life.window(end.t)
            if Phase.HEALED not in life.at:
                found.doubt(f"{life} was never healed", start, *life.seq.values())
            if groups and start <= groups[-1].healed:
                groups[-1].healed = max(groups[-1].healed, healed)
            else:
                groups.append(_Group(start=start, healed=healed))
            groups[-1].faults.append(life)
        return groups

    def _back(self, group: _Group, until: float) -> float | None:
        """The time at which work went on, looked for between the healing and the next fault."""
        pace = self._pace
        for at in range(bisect_left(pace.t, group.healed), bisect_left(pace.t, until)):
            if pace.left(at) <= (1 - self._share) * (group.baseline or 0.0) * WINDOW_S:
                return pace.t[at]  # next to nothing left to do
            stop = pace.window(at)
            if stop is not None and self._at_pace(at, stop, group.baseline):
                return pace.t[at]
        return None

    def _at_pace(self, start: int, stop: int, baseline: float | None) -> bool:
        rate, arrivals = self._pace.rate(start, stop), self._pace.arrivals(start, stop)
        if baseline is None:
            return rate > 0  # nothing to compare with: that work goes on at all
        # Where less comes than could be done, keeping up with it is all that can be asked.
        keeps_up = 0 < arrivals * self._share <= rate and self._pace.waiting[stop] <= baseline * WINDOW_S
        return rate >= self._share * baseline or keeps_up

    def _told(self, group: _Group, back: float | None, until: float, end: End, found: Findings) -> list[dict[str, Any]]:
        names = ", ".join(str(life) for life in group.faults[:3])
        seqs = tuple(life.seq[Phase.HEALED] for life in group.faults if Phase.HEALED in life.seq)
        drained = end.marks.get("drained")
        if back is None and drained is not None and group.healed <= drained < until:
            back = drained
        took_s = None if back is None else round(back - group.healed, 3)
        watched_s = min(end.t, until) - group.healed
        if took_s is not None and took_s > self._within_s:
            found.violation(f"{took_s:.1f} s after {names} until work went on", group.healed, *seqs)
        elif took_s is None and watched_s > self._within_s and self._sampled(group.healed + self._within_s):
            found.violation(f"work did not go on within {watched_s:.1f} s after {names}", group.healed, *seqs)
        elif took_s is None:
            found.doubt(f"no sample tells when work went on after {names}", group.healed, *seqs)
        baseline = None if group.baseline is None else round(group.baseline, 3)
        return [
            {
                "id": life.id,
                "kind": life.kind,
                "target": life.target,
                "healed_s": round(group.healed, 3),
                "recovery_s": took_s,
                "baseline_per_s": baseline,
            }
            for life in group.faults
        ]

    def _sampled(self, t: float) -> bool:
        """Whether there are samples up to about that time."""
        return bool(self._pace.t) and self._pace.t[-1] >= t - 2 * WINDOW_S
