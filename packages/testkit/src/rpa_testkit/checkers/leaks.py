"""Nothing is left behind."""

from __future__ import annotations

from typing import Any

from rpa_testkit.checkers.checker import End, Findings, Wants
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.history.entries import Entry, Header, Kind

_MUST = ("connections", "processes")
_MAY = ("containers", "networks")


class NoLeaks:
    """No connection to the database and no process after the end. What was seen last counts."""

    name = "no-leaks"
    about = "after the end no connection, process, container or network is left"

    def __init__(self, header: Header) -> None:
        self._last: dict[str, Entry] = {}

    def wants(self) -> Wants:
        """What was looked for after the end."""
        return {(Kind.OBSERVE, what): self._observe for what in (*_MUST, *_MAY)}

    def _observe(self, entry: Entry) -> None:
        self._last[entry.op] = entry

    def verdict(self, end: End) -> Verdict:
        """Whether anything was left, or was not looked for."""
        found = Findings()
        figures: dict[str, Any] = {}
        for what in (*_MUST, *_MAY):
            entry = self._last.get(what)
            if entry is None:
                if what in _MUST:
                    found.doubt(f"nobody looked for {what} after the end")
                continue
            count, names = _left(entry.value)
            figures[what] = count
            if count:
                found.violation(f"{count} {what} left behind{names}", entry.t, entry.seq)
        return found.verdict(self.name, "nothing was left behind", figures)


def _left(value: Any) -> tuple[int, str]:
    if isinstance(value, dict):
        value = value["count"]
    if isinstance(value, int):
        return value, ""
    return len(value), f": {', '.join(map(str, value[:5]))}" if value else ""
