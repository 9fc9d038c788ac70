"""Nothing took a way that does not exist."""

from __future__ import annotations

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants
from rpa_testkit.checkers.serials import Serials, enqueues
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind, Phase

BACKWARDS_S = 0.25
"""A line may carry the time at which something was seen rather than written."""

_NEXT: dict[str | None, tuple[str, ...]] = {
    None: (Phase.INJECT, Phase.NOT_RUN),
    Phase.INJECT: (Phase.INJECTED, Phase.UNVERIFIED),
    Phase.INJECTED: (Phase.VERIFIED, Phase.UNVERIFIED),
    Phase.VERIFIED: (Phase.HEAL,),
    Phase.UNVERIFIED: (Phase.HEAL,),
    Phase.HEAL: (Phase.HEALED, Phase.UNHEALED),
    Phase.UNHEALED: (Phase.HEAL,),  # tried again
    Phase.HEALED: (),
    Phase.NOT_RUN: (),
}


class LegalStates:
    """No contradiction in the ledger, no unexpected exit, faults in order, and a history that is whole."""

    name = "legal-states"
    about = "no contradiction in the ledger, no unexpected exit, faults and lines in their legal order"

    def __init__(self, header: Header) -> None:
        self._found = Findings()
        self._serials = Serials()
        self._seq = 0
        self._last: dict[str, float] = {}
        self._phase: dict[object, str] = {}
        self._marks: set[str] = set()
        self._exits = 0

    def wants(self) -> Wants:
        """Every line for its number and time; some for what they say."""
        return {
            **enqueues(self._enqueue),
            (ANY, ANY): self._line,
            (Kind.OBSERVE, "contradiction"): self._contradiction,
            (Kind.NODE, "exited"): self._exited,
            (Kind.FAULT, ANY): self._fault,
            (Kind.MARK, ANY): self._mark,
        }

    def _line(self, entry: Entry) -> None:
        seq, t, actor, _, _, _, _ = entry
        if seq != self._seq + 1:
            self._found.violation(f"line {seq} follows line {self._seq}", t, seq)
        self._seq = seq
        last = self._last.get(actor, t)
        if t < last - BACKWARDS_S:
            self._found.violation(f"time goes back from {last:.3f} to {t:.3f} s for {actor}", t, seq)
        self._last[actor] = t if t > last else last

    def _enqueue(self, entry: Entry) -> None:
        if not self._serials.note(entry):
            self._found.violation(f"{entry.kind} for serials from {entry.key} that were not asked", entry.t, entry.seq)

    def _contradiction(self, entry: Entry) -> None:
        what = entry.value if entry.key is None else f"{entry.key}: {entry.value}"
        self._found.violation(f"the ledger contradicts itself: {what}", entry.t, entry.seq)

    def _exited(self, entry: Entry) -> None:
        self._exits += 1
        seen = entry.value or {}
        if not seen.get("expected", False):
            self._found.violation(f"{entry.key} exited with {seen.get('code')}, unasked", entry.t, entry.seq)

    def _fault(self, entry: Entry) -> None:
        before = self._phase.get(entry.key)
        if entry.op not in _NEXT.get(before, ()):
            self._found.violation(f"fault {entry.key}: {entry.op} after {before or 'nothing'}", entry.t, entry.seq)
        self._phase[entry.key] = entry.op

    def _mark(self, entry: Entry) -> None:
        against = {"drained": "not-drained", "not-drained": "drained"}.get(entry.op)
        if entry.op in self._marks:
            self._found.violation(f"the run was marked {entry.op} twice", entry.t, entry.seq)
        if against in self._marks:
            self._found.violation(f"the run was marked {entry.op} after {against}", entry.t, entry.seq)
        self._marks.add(entry.op)

    def verdict(self, end: End) -> Verdict:
        """Whether any was found."""
        figures = {"lines": self._seq, "exits": self._exits, "faults": len(self._phase)}
        return self._found.verdict(self.name, f"{self._seq} lines, {self._exits} exits, all as they should be", figures)
