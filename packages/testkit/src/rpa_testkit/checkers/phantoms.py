"""What is there was put there."""

from __future__ import annotations

from rpa_testkit.checkers.checker import End, Findings, Wants
from rpa_testkit.checkers.serials import FAILED, PLACED, Serials, enqueues, possible
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind


class NoPhantoms:
    """Each record was enqueued by this run, under one key, and its enqueueing did not fail for certain."""

    name = "no-phantoms"
    about = "no record is there that this run did not enqueue"

    def __init__(self, header: Header) -> None:
        self._serials = Serials()
        self._found = Findings()
        self._records = 0

    def wants(self) -> Wants:
        """Enqueues and outcomes."""
        return {**enqueues(self._enqueue), (Kind.OUTCOME, "record"): self._outcome}

    def _enqueue(self, entry: Entry) -> None:
        self._serials.note(entry)

    def _outcome(self, entry: Entry) -> None:
        seq, _, _, _, _, serial, (results, _, dead, chunks, _, _, enqueued, _) = entry
        if not results + dead + chunks:
            return
        self._records += 1
        state = self._serials.get(serial)
        if not state:
            self._found.violation(f"record {serial!r} was never enqueued by this run", enqueued, seq)
            return
        if not possible(state):
            self._found.violation(f"record {serial} is there, though its enqueueing failed for certain", enqueued, seq)
        elif state & PLACED:
            self._found.violation(f"record {serial} is there under a second key", enqueued, seq)
        self._serials.states[serial] |= PLACED

    def verdict(self, end: End) -> Verdict:
        """Whether any was found."""
        failed = self._serials.count(lambda state: bool(state & FAILED) and not possible(state))
        figures = {"records": self._records, "failed_for_certain": failed, "phantoms": self._found.violations}
        return self._found.verdict(self.name, f"all {self._records} records were enqueued by this run", figures)
