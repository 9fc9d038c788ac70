"""Leases: one owner at a time, none stuck."""

from __future__ import annotations

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants, steady
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLog
from rpa_testkit.history.entries import Entry, Header, Kind

DEFAULT_TTL_S = 30.0


class Leases:
    """A chunk's epoch never falls, has one owner, and a lease that ran out is taken over while work can go on."""

    name = "leases"
    about = "no chunk has two owners at once, results come from the lease's owner, no lease is stuck"

    def __init__(self, header: Header) -> None:
        self._ttl_s = float(header.topology.get("lease_ttl_s", DEFAULT_TTL_S))
        self._allowance_s = steady(header, "recovery_s", 20.0)
        self._found = Findings()
        self._faults = FaultLog()
        self._held: dict[int, tuple[int, str]] = {}
        self._overdue: dict[
            tuple[int, int], tuple[float, float, int]
        ] = {}  # chunk and epoch: t, left_s, seq; the last look
        self._drained = False
        self._probes = self._results = 0

    def wants(self) -> Wants:
        """Leases seen, outcomes, samples after the drain, faults."""
        return {
            (Kind.PROBE, "lease"): self._lease,
            (Kind.OUTCOME, "record"): self._outcome,
            (Kind.METRIC, "sample"): self._sample,
            (Kind.MARK, "drained"): self._mark,
            (Kind.FAULT, ANY): self._faults.note,
        }

    def _lease(self, entry: Entry) -> None:
        seq, t, _, _, _, chunk, (owner, epoch, left_s) = entry
        self._probes += 1
        before, held_by = self._held.get(chunk, (epoch, owner))
        if epoch < before:
            self._found.violation(f"chunk {chunk}: epoch {epoch} after {before}", t, seq)
        elif epoch == before and owner != held_by:
            self._found.violation(f"chunk {chunk}: epoch {epoch} has two owners, {held_by} and {owner}", t, seq)
        else:
            self._held[chunk] = (epoch, owner)
        if left_s < -self._ttl_s:
            self._overdue[chunk, epoch] = (t, left_s, seq)
        if self._drained:
            self._found.violation(f"chunk {chunk} is leased to {owner} after the drain", t, seq)

    def _outcome(self, entry: Entry) -> None:
        results, _, _, _, writer, owner, _, done = entry[6]
        if not results or writer is None:
            return
        self._results += 1
        if owner is None:
            self._found.violation(f"record {entry[5]}: written by {writer}, its chunk has not ended", done, entry[0])
        elif owner != writer and owner.rpartition(":")[0] != writer:
            self._found.violation(f"record {entry[5]}: written by {writer} under {owner}'s lease", done, entry[0])

    def _sample(self, entry: Entry) -> None:
        if self._drained and entry.value.get("leased"):
            self._found.violation(f"{entry.value['leased']} records are leased after the drain", entry.t, entry.seq)

    def _mark(self, entry: Entry) -> None:
        self._drained = True

    def verdict(self, end: End) -> Verdict:
        """Whether any was found; leases that ran out are held against the time in which nothing stood in the way."""
        cover = self._faults.cover(end.t, self._allowance_s)
        for (chunk, epoch), (t, left_s, seq) in self._overdue.items():
            free_s = -left_s - cover.overlap(t + left_s, t)
            if free_s > self._ttl_s:
                says = f"chunk {chunk}: the lease of epoch {epoch} ran out {-left_s:.1f} s ago and nobody took it over"
                self._found.violation(says, t, seq)
        figures = {"chunks_seen": len(self._held), "probes": self._probes, "results_judged": self._results}
        return self._found.verdict(
            self.name, f"{len(self._held)} chunks seen leased, {self._results} results from their owners", figures
        )
