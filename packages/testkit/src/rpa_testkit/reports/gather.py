"""A history's lines, taken in one by one; memory is bounded by intervals, nodes and faults, not by records."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rpa_testkit.history.entries import Entry, Kind, Phase
from rpa_testkit.reports.grid import Grid, Layer, added, bin_of, later, together

_OTHER = frozenset({Kind.INVOKE, Kind.OK, Kind.INFO, Kind.FAIL})


@dataclass(slots=True)
class Life:
    """One fault's lines: when each phase came, and what was said."""

    id: int
    kind: str = ""
    target: str = ""
    params: dict[str, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    why: str = ""
    seq: list[int] = field(default_factory=list)


class Node:
    """One node's use per interval."""

    def __init__(self, grid: Grid) -> None:
        self.rss: Layer[float] = grid.layer(max)
        self.cpu_s: Layer[float] = grid.layer(added)
        self.measured_s: Layer[float] = grid.layer(added)
        self.restarts: list[float] = []
        self.peak = 0
        self.used_s = self.up_s = 0.0
        self._last: tuple[float, float] | None = None

    def sample(self, grid: Grid, t: float, rss_bytes: int, cpu_s: float, up: bool) -> None:
        """Take one sample in."""
        if not up:
            self._last = None
            return
        place = grid.place(t)
        self.rss.put(place, rss_bytes)
        self.peak = max(self.peak, rss_bytes)
        if self._last is not None:
            since, before = self._last
            if cpu_s < before:
                # CPU time begins at 0 with every start; PostgreSQL's only shrinks when one of its processes ends.
                if cpu_s < before / 2:
                    self.restarts.append(t)
            elif t > since:
                self.cpu_s.put(place, cpu_s - before)
                self.measured_s.put(place, t - since)
                self.used_s += cpu_s - before
                self.up_s += t - since
        self._last = (t, cpu_s)


class Gatherer:
    """What one pass over a history has seen."""

    def __init__(self) -> None:
        self.grid = Grid()
        self.completed: Layer[float] = self.grid.layer(added)
        self.latencies: Layer[Counter[int]] = self.grid.layer(together)
        self.waiting: Layer[float] = self.grid.layer(later)
        self.leased: Layer[float] = self.grid.layer(later)
        self.connections: Layer[float] = self.grid.layer(max)
        self.nodes: dict[str, Node] = {}
        self.lives: dict[int, Life] = {}
        self.marks: dict[str, float] = {}
        self.all_latencies: Counter[int] = Counter()
        self.slowest_s = 0.0
        self.acknowledged = self.indeterminate = 0
        self.found = self.done = self.dead = self.unfinished = self.twice = self.without = 0
        self.first_enqueued: float | None = None
        self.last_done = 0.0
        self.last_t = 0.0
        self.longest_lease_s = 0.0
        self.scheduled: dict[int, str] = {}
        self.oom: list[tuple[int, float, str]] = []
        self.unexpected_exits: list[tuple[int, float, str]] = []

    def outcome(self, value: Any) -> None:
        """One record as the database holds it. Called a million times: plain and unpacked on purpose."""
        results, effects, dead, chunks, _, _, enqueued, done = value
        self.found += 1
        if self.first_enqueued is None or enqueued < self.first_enqueued:
            self.first_enqueued = enqueued
        if results > 1 or dead > 1 or effects > 1 or (results and dead):
            self.twice += 1
        if dead and not results:
            self.dead += 1
        elif results:
            self.done += 1
        elif chunks:
            self.unfinished += 1
        else:
            self.without += 1
        if done is None:
            return
        self.last_done = max(self.last_done, done)
        latency = done - enqueued
        self.slowest_s = max(self.slowest_s, latency)
        number = bin_of(latency)
        grid = self.grid
        place = int(done / grid.width_s) if 0 < done < grid.end_s else grid.place(done)
        completed, latencies = self.completed, self.latencies
        if place in completed:
            completed[place] += 1
            latencies[place][number] += 1
        else:
            completed[place] = 1
            latencies[place] = Counter((number,))
        self.all_latencies[number] += 1

    def line(self, entry: Entry) -> None:
        """Any other line."""
        self.last_t = max(self.last_t, entry.t)
        kind = entry.kind
        if kind in _OTHER:
            if kind == Kind.OK:
                self.acknowledged += entry.value
            elif kind == Kind.INFO:
                self.indeterminate += entry.value
        elif kind == Kind.METRIC:
            self._sample(entry.t, entry.value)
        elif kind == Kind.PROBE:
            if entry.op == "lease":
                self.longest_lease_s = max(self.longest_lease_s, entry.value[2])
        elif kind == Kind.FAULT:
            self._fault(entry)
        elif kind == Kind.MARK:
            self.marks[entry.op] = entry.t
        elif kind == Kind.NODE:
            self._node(entry)
        elif kind == Kind.OBSERVE and entry.op == "schedule":
            self.scheduled.update((number, name) for number, name in entry.value)

    def _sample(self, t: float, value: dict[str, Any]) -> None:
        place = self.grid.place(t)
        for name, layer in (
            ("waiting", self.waiting), ("leased", self.leased), ("connections", self.connections)
        ):  # fmt: skip
            if value.get(name) is not None:
                layer.put(place, value[name])
        for name, (rss_bytes, cpu_s, up) in value["nodes"].items():
            if name not in self.nodes:
                self.nodes[name] = Node(self.grid)
            self.nodes[name].sample(self.grid, t, rss_bytes, cpu_s, up)

    def _fault(self, entry: Entry) -> None:
        value = entry.value or {}
        life = self.lives.setdefault(entry.key, Life(entry.key))
        life.kind, life.target = value.get("kind", life.kind), value.get("target", life.target)
        life.phases.setdefault(entry.op, entry.t)
        life.seq.append(entry.seq)
        if entry.op == Phase.INJECT:
            numbers = {**value.get("params", {}), "hold_s": value.get("hold_s")}
            life.params = {name: number for name, number in numbers.items() if number is not None}
        if entry.op in (Phase.NOT_RUN, Phase.UNVERIFIED, Phase.UNHEALED):
            life.why = life.why or str(value.get("why") or value.get("error") or "")

    def _node(self, entry: Entry) -> None:
        if entry.op == "oom":
            self.oom.append((entry.seq, entry.t, entry.key))
        elif entry.op == "exited" and not (entry.value or {}).get("expected"):
            self.unexpected_exits.append((entry.seq, entry.t, entry.key))

    @property
    def end_s(self) -> float:
        """When the run was over: its mark, else its last line that is no outcome."""
        return max(self.marks.get("ended", 0.0), self.last_t, self.last_done, math.ulp(1.0))
