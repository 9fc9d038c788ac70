"""The history around the first violation of each checker that failed, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from rpa_testkit.checkers.verdict import Status, Verdict
from rpa_testkit.history.entries import Entry, Kind
from rpa_testkit.reports.model import Excerpt, Line
from rpa_testkit.reports.words import plain, shortened

AROUND_S = 5.0
_EVENTS = 12  # lines kept on each side of the moment: of what broke or went wrong, and of everything else
_ROUTINE = 4
_CITED = 20
_LENGTH = 240
_ROUTINE_KINDS = frozenset({Kind.INVOKE, Kind.OK, Kind.METRIC, Kind.PROBE})


class Window:
    """The lines around one moment: those nearest to it, and all that the evidence names."""

    def __init__(self, verdict: Verdict) -> None:
        first = verdict.evidence[0]
        self.checker = verdict.checker
        self.moment = first.t
        self.cited = frozenset(first.seq[:_CITED])
        self._before = {True: deque[Entry](maxlen=_ROUTINE), False: deque[Entry](maxlen=_EVENTS)}
        self._after: dict[bool, list[Entry]] = {True: [], False: []}
        self._named: list[Entry] = []
        self._seen = 0

    def line(self, entry: Entry) -> None:
        """Keep it if it belongs here."""
        if entry.seq in self.cited:
            self._named.append(entry)
        elif self.moment is not None and abs(entry.t - self.moment) <= AROUND_S:
            self._seen += 1
            routine = entry.kind in _ROUTINE_KINDS
            if entry.t <= self.moment:
                self._before[routine].append(entry)
            elif len(self._after[routine]) < (_ROUTINE if routine else _EVENTS):
                self._after[routine].append(entry)

    def excerpt(self) -> Excerpt:
        """What was kept, in order."""
        near = [entry for group in (*self._before.values(), *self._after.values()) for entry in group]
        lines = tuple(_line(entry, entry.seq in self.cited) for entry in sorted([*near, *self._named]))
        return Excerpt(checker=self.checker, around_s=self.moment, lines=lines, left_out=max(0, self._seen - len(near)))


def windows(verdicts: Iterable[Verdict]) -> Iterator[Window]:
    """One for each checker that did not pass and shows something."""
    return (Window(verdict) for verdict in verdicts if verdict.status is not Status.PASS and verdict.evidence)


def _line(entry: Entry, cited: bool) -> Line:
    value = entry.value
    if entry.kind == Kind.METRIC and isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if name != "nodes"}  # drawn elsewhere, and long
    said = " ".join(filter(None, (plain(entry.key), plain(value))))
    what = f"{entry.kind} {entry.op}"
    return Line(seq=entry.seq, t=entry.t, actor=entry.actor, what=what, text=shortened(said, _LENGTH), cited=cited)
