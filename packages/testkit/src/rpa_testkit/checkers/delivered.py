"""Nothing is left on the way: spools are empty, and alerts that were to come have come and ended."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLog
from rpa_testkit.history.entries import Entry, Header, Kind

_MAKES_DEAD = {"prefect": frozenset({"http-rejects"})}


class SpoolsDrained:
    """No entry waits in any spool after the end; dead letters only where a fault has refused what was sent."""

    name = "spools-drained"
    about = "nothing is left in a spool, and nothing was given up that no fault refused"

    def __init__(self, header: Header) -> None:
        self._kept = bool(header.topology.get("spools"))
        self._spools: list[Entry] = []
        self._unread: list[Entry] = []
        self._files: int | None = None
        self._faults = FaultLog()

    def wants(self) -> Wants:
        """What was read at the end, and the faults."""
        return {
            (Kind.OBSERVE, "spool"): self._spools.append,
            (Kind.OBSERVE, "spool-unread"): self._unread.append,
            (Kind.OBSERVE, "spools"): self._count,
            (Kind.FAULT, ANY): self._faults.note,
        }

    def _count(self, entry: Entry) -> None:
        self._files = int(entry.value["files"])

    def verdict(self, end: End) -> Verdict:
        """Spool by spool."""
        found = Findings()
        if not self._kept:
            return found.verdict(self.name, "no spools were kept")
        waiting: Counter[str] = Counter()
        dead: Counter[str] = Counter()
        if self._files is None:
            found.doubt("nobody looked into the spools after the end")
        for entry in self._unread:
            found.doubt(f"spool {entry.key} could not be read: {entry.value}", entry.t, entry.seq)
        ran = {fault.kind for fault in self._faults.ran()}
        for entry in self._spools:
            for kind, count in entry.value["waiting"].items():
                waiting[kind] += count
                found.violation(f"{count} entries of kind {kind} are left in {entry.key}", entry.t, entry.seq)
            for kind, count in entry.value["dead"].items():
                dead[kind] += count
                if not ran & _MAKES_DEAD.get(kind, frozenset()):
                    why = next(iter(entry.value.get("reasons", {}).values()), "no reason was given")
                    says = f"{count} entries of kind {kind} were given up in {entry.key}: {why}"
                    found.violation(says, entry.t, entry.seq)
        figures: dict[str, Any] = {"files": self._files or 0, "waiting": dict(waiting), "dead": dict(dead)}
        return found.verdict(self.name, "nothing is left in any spool", figures)


class Alerted:
    """Every alert that the scenario names was raised at the real Alertmanager, and none is open at the end."""

    name = "alerted"
    about = "Alertmanager got the alerts that were to come, and each has ended"

    def __init__(self, header: Header) -> None:
        self._demanded = tuple(header.topology.get("demanded_alerts", ()))
        self._raised: dict[str, Entry] = {}
        self._over: Counter[str] = Counter()
        self._looked: Entry | None = None
        self._stand_ins: dict[str, str] = {}

    def wants(self) -> Wants:
        """What was seen at Alertmanager."""
        return {
            (Kind.OBSERVE, "alert"): self._raise,
            (Kind.OBSERVE, "alert-over"): self._end,
            (Kind.OBSERVE, "alerts"): self._look,
            (Kind.OBSERVE, "stand-in"): self._stands_in,
        }

    def _raise(self, entry: Entry) -> None:
        self._raised.setdefault(str(entry.value["name"]), entry)

    def _end(self, entry: Entry) -> None:
        self._over[str(entry.value["name"])] += 1

    def _look(self, entry: Entry) -> None:
        self._looked = entry

    def _stands_in(self, entry: Entry) -> None:
        self._stand_ins[str(entry.key)] = str(entry.value)

    def verdict(self, end: End) -> Verdict:
        """Each that was demanded."""
        found = Findings()
        if not self._demanded:
            return found.verdict(self.name, "no alert is demanded")
        looked = self._looked
        if looked is None or not looked.value["read"]:
            found.doubt(f"Alertmanager was not read{self._because()}")
            return found.verdict(self.name, "")
        for name in self._demanded:
            if name not in self._raised:
                found.violation(f"Alertmanager never got {name}", looked.t, looked.seq)
            elif not self._over[name]:
                found.violation(f"{name} has not ended", self._raised[name].t, self._raised[name].seq, looked.seq)
        figures = {"raised": sorted(self._raised), "ended": dict(self._over), "looks": looked.value["looks"]}
        return found.verdict(self.name, f"{', '.join(self._demanded)} came and ended", figures)

    def _because(self) -> str:
        why = self._stand_ins.get("alertmanager")
        return f": a stand-in was there ({why})" if why else ""
