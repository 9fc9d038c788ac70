"""What was acknowledged is there."""

from __future__ import annotations

from array import array
from typing import Any

from rpa_testkit.checkers.checker import SHOWN, End, Findings, Wants
from rpa_testkit.checkers.serials import ACKED, MAYBE, PENDING, PLACED, Serials, acknowledged, enqueues
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind


class NoLost:
    """An acknowledged record is in its place after the drain; one whose fate is unknown may be there or not."""

    name = "no-lost"
    about = "every acknowledged record has its result or its dead letter after the drain"

    def __init__(self, header: Header) -> None:
        self._serials = Serials()
        self._acks: tuple[array[int], ...] = array("q"), array("q"), array("q")  # first serial, n, seq
        self._acked_at = array("d")

    def wants(self) -> Wants:
        """Enqueues and outcomes."""
        return {
            **enqueues(self._enqueue),
            (Kind.OK, "enqueue"): self._ok,
            (Kind.OUTCOME, "record"): self._outcome,
        }

    def _enqueue(self, entry: Entry) -> None:
        self._serials.note(entry)

    def _ok(self, entry: Entry) -> None:
        self._serials.note(entry)
        for column, value in zip(self._acks, (entry.key, entry.value, entry.seq), strict=True):
            column.append(value)
        self._acked_at.append(entry.t)

    def _outcome(self, entry: Entry) -> None:
        results, _, dead, chunks, _, _, _, _ = entry[6]
        serials, serial = self._serials, entry[5]
        if serials.get(serial):
            serials.states[serial] |= PLACED if results + dead else PENDING if chunks else 0

    def verdict(self, end: End) -> Verdict:
        """Look for those that are acknowledged and nowhere."""
        serials, found = self._serials, Findings()
        drained, given_up = "drained" in end.marks, "not-drained" in end.marks

        def pending(state: int) -> bool:
            return acknowledged(state) and state & (PLACED | PENDING) == PENDING

        def lost(state: int) -> bool:
            return acknowledged(state) and not state & (PLACED | PENDING)

        self._show(found, lost, "was acknowledged and is in no place")
        if drained:
            self._show(found, pending, "was acknowledged and is in an unfinished chunk after the drain")
        elif not given_up and serials.count(pending):
            found.doubt(f"{serials.count(pending)} records are unfinished, and whether the run drained was not noted")
        figures: dict[str, Any] = {
            "acknowledged": serials.count(acknowledged),
            "placed": serials.count(lambda state: acknowledged(state) and bool(state & PLACED)),
            "pending": serials.count(pending),
            "lost": serials.count(lost) + (serials.count(pending) if drained else 0),
            "unknown": serials.count(lambda state: state & (MAYBE | ACKED) == MAYBE),
            "unknown_found": serials.count(lambda state: state & (MAYBE | ACKED) == MAYBE and bool(state & PLACED)),
        }
        return found.verdict(
            self.name, f"all {figures['acknowledged']} acknowledged records are accounted for", figures
        )

    def _show(self, found: Findings, holds: Any, what: str) -> None:
        for number, serial in enumerate(self._serials.where(holds)):
            where = self._ack_of(serial) if number < SHOWN else ()
            found.violation(f"record {serial} {what}", *where)

    def _ack_of(self, serial: int) -> tuple[float, int] | tuple[()]:
        for first, n, seq, t in zip(*self._acks, self._acked_at, strict=True):
            if first <= serial < first + n:
                return t, seq
        return ()
