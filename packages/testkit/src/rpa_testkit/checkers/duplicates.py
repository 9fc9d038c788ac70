"""What happened, happened once."""

from __future__ import annotations

from rpa_testkit.checkers.checker import End, Findings, Wants
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind


class NoDuplicates:
    """One result or one dead letter, one effect for a result, one record for a serial."""

    name = "no-duplicates"
    about = "no record has two results, effects, dead letters or places, and effects match results"

    def __init__(self, header: Header) -> None:
        self._found = Findings()
        self._seen = bytearray()
        self._others: set[str] = set()
        self._records = 0

    def wants(self) -> Wants:
        """Outcomes."""
        return {(Kind.OUTCOME, "record"): self._outcome}

    def _outcome(self, entry: Entry) -> None:
        seq, _, _, _, _, serial, (results, effects, dead, chunks, _, _, _, done) = entry
        self._records += 1
        self._once(entry)
        # The common case in one comparison: in one place, with as many effects as results.
        if results + dead + chunks <= 1 and (effects == results or effects < 0):
            return
        says = None
        if results > 1:
            says = f"{results} results"
        elif dead > 1:
            says = f"{dead} dead letters"
        elif results and dead:
            says = "a result and a dead letter"
        elif (results or dead) and chunks:
            says = f"{'a result' if results else 'a dead letter'} and is still in a chunk"
        elif chunks > 1:
            says = f"its place in {chunks} unfinished chunks"
        elif 0 <= effects != results:
            says = f"{effects} effects and {results} results"
        if says is not None:
            self._found.violation(f"record {serial} has {says}", done, seq)

    def _once(self, entry: Entry) -> None:
        serial, seen = entry[5], self._seen
        if type(serial) is not int or not 0 <= serial < 1 << 28:
            if repr(serial) in self._others:
                self._found.violation(f"record {serial!r} is there twice", entry.t, entry.seq)
            self._others.add(repr(serial))
            return
        if serial >= len(seen):
            seen.extend(bytes(max(1024, serial + 1)))
        if seen[serial]:
            self._found.violation(f"record {serial} is there twice", entry[1], entry[0])
        seen[serial] = 1

    def verdict(self, end: End) -> Verdict:
        """Whether any was found."""
        figures = {"records": self._records, "duplicates": self._found.violations}
        return self._found.verdict(self.name, f"none of {self._records} records happened twice", figures)
