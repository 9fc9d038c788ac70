"""Prefect knows what happened: one run for each life, ended as the life did, with its lines in order."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLog
from rpa_testkit.history.entries import Entry, Header, Kind

_TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_LOSES_LINES = "http-rejects"


class Reported:
    """Judged only where the topology has Prefect. A life that never began its work may have a run too, an ended one."""

    name = "reported"
    about = "Prefect has one run for each life of a worker, ended as the life did, with its log lines in order"

    def __init__(self, header: Header) -> None:
        self._asked = any(each.get("name") == "prefect" for each in header.topology.get("dependencies", ()))
        self._lives: dict[str, Entry] = {}
        self._runs: list[Entry] = []
        self._count: int | None = None
        self._unread = ""
        self._faults = FaultLog()

    def wants(self) -> Wants:
        """What was read at the end, and the faults."""
        return {
            (Kind.OBSERVE, "life"): self._life,
            (Kind.OBSERVE, "prefect-run"): self._runs.append,
            (Kind.OBSERVE, "prefect"): self._read,
            (Kind.OBSERVE, "prefect-unread"): self._not_read,
            (Kind.FAULT, ANY): self._faults.note,
        }

    def _life(self, entry: Entry) -> None:
        self._lives[str(entry.key)] = entry

    def _read(self, entry: Entry) -> None:
        self._count = int(entry.value["runs"])

    def _not_read(self, entry: Entry) -> None:
        self._unread = str(entry.value)

    def verdict(self, end: End) -> Verdict:
        """Each life against its runs, each run against its life."""
        found = Findings()
        if not self._asked:
            return found.verdict(self.name, "no Prefect in this topology")
        if self._count is None or self._count != len(self._runs):
            found.doubt(f"Prefect was not read{f': {self._unread}' if self._unread else ''}")
        elif not self._lives:
            found.doubt("no life of a worker was noted")
        else:
            self._judge(found)
        lines = sum(int(run.value.get("lines", 0)) for run in self._runs)
        twice = sum(int(run.value.get("twice", 0)) for run in self._runs)
        figures = {"lives": len(self._lives), "runs": len(self._runs), "lines": lines, "lines_twice": twice}
        return found.verdict(self.name, f"{len(self._lives)} lives, each with its run, {lines} lines", figures)

    def _judge(self, found: Findings) -> None:
        by_life = Counter(run.value.get("incarnation") for run in self._runs)
        for incarnation, life in self._lives.items():
            count = by_life[incarnation]
            if count != 1:
                found.violation(f"{incarnation} has {count} runs in Prefect", life.t, life.seq)
        may_lose = any(fault.kind == _LOSES_LINES for fault in self._faults.ran())
        for run in self._runs:
            value, its = run.value, self._lives.get(str(run.value.get("incarnation")))
            if value["state"] not in _TERMINAL:
                found.violation(f"run {value['name']} is still {value['state']}", run.t, run.seq)
            elif its is not None:
                self._compare(found, run, its, may_lose=may_lose)

    @staticmethod
    def _compare(found: Findings, run: Entry, life: Entry, *, may_lose: bool) -> None:
        value: dict[str, Any] = run.value
        drained = bool(life.value["drained"])
        right = "COMPLETED" if drained else "CRASHED"
        if value["state"] != right:
            how = "drained" if drained else "ended without a word"
            says = f"run {value['name']} is {value['state']}, but its life {how}"
            found.violation(says, run.t, run.seq, life.seq)
        if value.get("disordered"):
            found.violation(f"lines of run {value['name']} are out of order", run.t, run.seq)
        if drained and value.get("missing") and not may_lose:
            found.violation(f"{value['missing']} lines of run {value['name']} are missing", run.t, run.seq)
