"""All checkers on one history, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rpa_testkit.checkers.checker import ANY, Checker, End, Handler
from rpa_testkit.checkers.delivered import Alerted, SpoolsDrained
from rpa_testkit.checkers.drained import Drained
from rpa_testkit.checkers.duplicates import NoDuplicates
from rpa_testkit.checkers.leaks import NoLeaks
from rpa_testkit.checkers.leases import Leases
from rpa_testkit.checkers.lost import NoLost
from rpa_testkit.checkers.overlap import Overlap
from rpa_testkit.checkers.phantoms import NoPhantoms
from rpa_testkit.checkers.rate import Rate
from rpa_testkit.checkers.recovery import Recovery
from rpa_testkit.checkers.reported import Reported
from rpa_testkit.checkers.states import LegalStates
from rpa_testkit.checkers.verdict import Judgement, Status, Verdict
from rpa_testkit.checkers.verified import FaultsVerified
from rpa_testkit.checkers.within import Within
from rpa_testkit.history.entries import Entry, Header, Kind
from rpa_testkit.history.reader import History, HistoryError

_ALL: tuple[type[Checker], ...] = (
    NoLost,
    NoDuplicates,
    NoPhantoms,
    LegalStates,
    Leases,
    Recovery,
    Within,
    Drained,
    FaultsVerified,
    Overlap,
    NoLeaks,
    Rate,
    Reported,
    SpoolsDrained,
    Alerted,
)
CHECKERS: Mapping[str, type[Checker]] = {checker.name: checker for checker in _ALL}


def judge(history: History, names: Sequence[str] = ()) -> Judgement:
    """Judge by the checkers named, else by those that the header names, else by all.

    ValueError for a name in `names` that is no checker's. An unreadable or cut-off history is unknown to each.
    """
    return judge_entries(history.header, history, names)


def judge_entries(header: Header, entries: Iterable[Entry], names: Sequence[str] = ()) -> Judgement:
    """The same without a file."""
    unknown = [name for name in names if name not in CHECKERS]
    if unknown:
        raise ValueError(f"no checker is called {', '.join(unknown)}; there are {', '.join(CHECKERS)}")
    bench = _Bench(header, names or header.checkers or tuple(CHECKERS))
    broken = bench.feed(entries)
    return Judgement(run_id=header.run_id, verdicts=tuple(bench.verdict(name, broken) for name in bench.names))


class _Bench:
    """The checkers at work on one history. One that raises is out; the others go on."""

    def __init__(self, header: Header, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._checkers = {name: CHECKERS[name](header) for name in self.names if name in CHECKERS}
        self._wants = [
            (name, kind, op, handler)
            for name, checker in self._checkers.items()
            for (kind, op), handler in checker.wants().items()
        ]
        self._out = {name: "no checker of this version has that name" for name in self.names if name not in CHECKERS}
        self._table: dict[tuple[str, str], list[tuple[str, Handler]]] = {}
        self._marks: dict[str, float] = {}
        self._last = 0.0

    def feed(self, entries: Iterable[Entry]) -> str | None:
        """Give each line to those that want it; says what is wrong with the history as a whole."""
        table, last = self._table, 0.0
        entry = None
        try:
            for entry in entries:
                _, t, _, kind, op, _, _ = entry
                handlers = table.get((kind, op))
                if handlers is None:
                    handlers = table[kind, op] = self._handlers(kind, op)
                for name, handler in handlers:
                    try:
                        handler(entry)
                    except Exception as error:  # noqa: BLE001 - a checker's fault must not end the others' work
                        self._crashed(name, f"at line {entry.seq}: {error!r}")
                if t > last:
                    last = t
                if kind == Kind.MARK:
                    self._marks.setdefault(op, t)
        except (HistoryError, TypeError, ValueError) as error:
            return f"the history cannot be read to its end: {error}"
        finally:
            self._last = last
        if entry is None:
            return "the history is empty"
        return None if "ended" in self._marks else f"the history is cut off after line {entry.seq}"

    def verdict(self, name: str, broken: str | None) -> Verdict:
        """One checker's; unknown if it is out or the history is broken."""
        if name in self._out:
            return Verdict(checker=name, status=Status.UNKNOWN, says=self._out[name])
        try:
            verdict = self._checkers[name].verdict(End(t=self._last, marks=self._marks))
        except Exception as error:  # noqa: BLE001 - as above
            return Verdict(checker=name, status=Status.UNKNOWN, says=f"the checker failed at the end: {error!r}")
        if broken is None:
            return verdict
        so_far = f"; up to there: {verdict.says}" if verdict.status is Status.FAIL else ""
        return replace(verdict, status=Status.UNKNOWN, says=broken + so_far)

    def _handlers(self, kind: str, op: str) -> list[tuple[str, Handler]]:
        return [
            (name, handler)
            for name, wanted_kind, wanted_op, handler in self._wants
            if wanted_kind in (kind, ANY) and wanted_op in (op, ANY) and name not in self._out
        ]

    def _crashed(self, name: str, says: str) -> None:
        self._out[name] = f"the checker failed {says}"
        for key, handlers in self._table.items():
            self._table[key] = [one for one in handlers if one[0] != name]
