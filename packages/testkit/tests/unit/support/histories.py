"""Histories of runs in which nothing went wrong, from a small seeded model of producers, workers and faults.

The model knows nothing of checkers. Work is done in order at a pace that faults lower and that comes back some time
after they are healed; producers see refusals and lost answers; leases are handed on; some records are tried twice,
some die.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from rpa_testkit.history.entries import Entry, Header, Kind, Outcome, Phase

_STEP_S = 0.1
_SAMPLE_S = 0.5
_KINDS = {  # kind: whether PostgreSQL is what it strikes, and the share of a worker's pace that is left
    "crash": (False, 0.0),
    "terminate": (False, 0.0),
    "pause": (False, 0.0),
    "partition": (False, 0.0),
    "latency": (False, 0.5),
    "reset": (False, 0.8),
    "cpu": (False, 0.3),
    "postgres-crash": (True, 0.0),
    "postgres-restart": (True, 0.0),
    "read-only": (True, 0.0),
    "backends-terminated": (True, 0.6),
}

Line = tuple[float, str, str, str, Any, Any]


@dataclass(slots=True, kw_only=True)
class World:
    """A history in memory."""

    header: Header
    entries: list[Entry]

    def copy(self) -> World:
        """To be changed."""
        return World(header=self.header, entries=list(self.entries))

    def renumber(self) -> None:
        """Give the lines their numbers again, so that what was done to them shows nowhere else."""
        self.entries = [entry._replace(seq=number) for number, entry in enumerate(self.entries, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Struck:
    number: int
    kind: str
    target: str
    inject: float
    heal: float
    healed: float
    lag_s: float
    postgres: bool
    left: float  # share of the whole pace

    def share(self, t: float) -> float:
        if t < self.inject:
            return 1.0
        if t < self.healed:
            return self.left
        return min(1.0, self.left + (1 - self.left) * (t - self.healed) / self.lag_s) if self.lag_s else 1.0


def clean(seed: int, records: int = 150) -> World:
    """A history of about so many records, in memory."""
    run = _Run(seed, records)
    return World(header=run.header, entries=list(run.entries()))


def write(path: Path, seed: int, records: int) -> Header:
    """The same to a file, in little memory."""
    run = _Run(seed, records)
    store(path, run.header, run.entries())
    return run.header


def store(path: Path, header: Header, entries: Iterable[Entry]) -> None:
    """Write a history's file."""
    with path.open("wb") as file:
        file.write(orjson.dumps(asdict(header), option=orjson.OPT_APPEND_NEWLINE))
        file.writelines(
            orjson.dumps(tuple(entry), default=tuple, option=orjson.OPT_APPEND_NEWLINE) for entry in entries
        )


class _Run:
    def __init__(self, seed: int, records: int) -> None:
        self.rng = rng = random.Random(seed)
        self.records = records
        self.batch = max(1, min(1_000, records // rng.randint(20, 40)))
        self.workers = [f"worker-{number}" for number in range(1, rng.randint(2, 3) + 1)]
        self.owners = {name: [f"{name}:{rng.getrandbits(48):012x}" for _ in range(2)] for name in self.workers}
        self.steady = {"within_s": 60.0, "recovery_s": 10.0, "recovered_share": 0.9, "drain_s": 60.0, "min_rate": 0.0}
        self.ttl_s = 5.0
        self.faults, self.not_run = self._faults()
        last = max((fault.healed for fault in self.faults), default=5.0)
        self.flooded = rng.random() < 0.5  # enqueued faster than worked off, or a little slower
        self.arrive_s = rng.uniform(2, 4) if self.flooded else last + rng.uniform(1, 4)
        pace = records / (last + rng.uniform(3, 8)) if self.flooded else records / self.arrive_s / rng.uniform(0.5, 0.8)
        self.pace = pace
        self.effects = rng.random() < 0.85
        self.lines: list[Line] = []
        self.alive: dict[int, float] = {}  # serial: committed at
        self.header = Header(
            run_id=f"run-{seed}",
            scenario="modelled",
            driver="process",
            seed=seed,
            started_at="2026-01-01T00:00:00+00:00",
            steady_state=self.steady,
            topology={
                "lease_ttl_s": self.ttl_s,
                "dependencies": [{"name": "prefect"}, {"name": "alertmanager"}],
                "demanded_alerts": ["DiskLow"],
                "spools": True,
            },
        )

    def entries(self) -> Iterator[Entry]:
        self._add(0.01, "runner", Kind.MARK, "begun")
        for worker in self.workers:
            self._add(0.02, worker, Kind.NODE, "started", worker, {})
            self._add(0.04, worker, Kind.NODE, "ready", worker, {})
        if self.rng.random() < 0.7:
            listed = [[f.number, f.kind] for f in self.faults] + [[number, kind] for number, kind in self.not_run]
            self._add(0.05, "runner", Kind.OBSERVE, "schedule", None, listed)
        self._strike()
        loaded = self._produce()
        done = self._work()
        last = max((fault.healed for fault in self.faults), default=0.0)
        healed = max(loaded, last) + 0.01
        drained = max([healed, *done.values()]) + self.rng.uniform(0.05, 0.6)
        self._add(loaded, "runner", Kind.MARK, "workload-done")
        self._add(healed, "runner", Kind.MARK, "healed")
        self._samples(done, drained)
        self._leases(done, drained)
        self._add(drained, "runner", Kind.MARK, "drained")
        self.lines.sort(key=lambda line: line[0])
        seq = 0
        for seq, line in enumerate(self.lines, 1):
            yield Entry(seq, round(line[0], 6), *line[1:])
        for serial in sorted(self.alive):
            seq += 1
            yield Entry(
                seq, round(drained + 0.2, 6), "runner", "outcome", "record", serial, self._outcome(serial, done)
            )
        ending: list[tuple[str, str, Any, Any]] = [
            ("observe", "connections", None, {"count": 0}),
            *self._delivered(),
            ("observe", "processes", None, []),
            ("mark", "ended", None, None),
        ]
        for number, (kind, op, key, value) in enumerate(ending, 1):
            yield Entry(seq + number, round(drained + 0.5, 6), "runner", kind, op, key, value)

    def _delivered(self) -> Iterator[tuple[str, str, Any, Any]]:
        """What is found with others at the end: each worker's last life ended in order, those before may have died."""
        rng = self.rng
        lives = [
            (owner, worker, number == len(owners) - 1 or rng.random() < 0.5)
            for worker, owners in self.owners.items()
            for number, owner in enumerate(owners)
        ]
        for owner, worker, drained in lives:
            yield "observe", "life", owner, {"node": worker, "drained": drained}
        lines = {"lines": rng.randint(2, 90), "twice": rng.choice((0, 0, 3)), "missing": 0, "disordered": False}
        runs: list[dict[str, Any]] = [
            {
                "incarnation": owner,
                "name": f"probe-{owner}",
                "state": "COMPLETED" if drained else "CRASHED",
                **lines,
                "missing": 0 if drained else rng.randint(0, 3),
            }
            for owner, _, drained in lives
        ]
        if rng.random() < 0.3:  # it died before it had begun to work
            runs.append({"incarnation": "worker-1:unheard-of", "name": "probe-x", "state": "CRASHED"})
        for run in runs:
            yield "observe", "prefect-run", f"{rng.getrandbits(64):x}", run
        yield "observe", "prefect", None, {"runs": len(runs)}
        yield "observe", "spools", None, {"files": rng.randint(0, 3)}
        yield "observe", "alert", "fingerprint", {"name": "DiskLow", "labels": {}}
        yield "observe", "alert-over", "fingerprint", {"name": "DiskLow"}
        yield "observe", "alerts", None, {"looks": 40, "failed": rng.choice((0, 2)), "read": True, "open": []}

    def _add(self, t: float, actor: str, kind: str, op: str, key: Any = None, value: Any = None) -> None:
        self.lines.append((t, actor, str(kind), str(op), key, value))

    def _faults(self) -> tuple[list[_Struck], list[tuple[int, str]]]:
        rng = self.rng
        faults: list[_Struck] = []
        not_run: list[tuple[int, str]] = []
        at = rng.choice([0.3, rng.uniform(2, 4)])
        for number in range(1, rng.randint(0, 6) + 1):
            kind = rng.choice(list(_KINDS))
            postgres, left = _KINDS[kind]
            if rng.random() < 0.1 and faults:
                not_run.append((number, "clock"))
                continue
            heal = at + rng.uniform(0.5, 2.5)
            faults.append(
                _Struck(
                    number=number,
                    kind=kind,
                    target="postgres" if postgres else rng.choice(self.workers),
                    inject=at,
                    heal=heal,
                    healed=heal + rng.uniform(0.05, 0.5),
                    lag_s=rng.choice([0.0, rng.uniform(0, 5)]),
                    postgres=postgres,
                    left=left if postgres else 1 - (1 - left) / len(self.workers),
                )
            )
            at += rng.choice([rng.uniform(0.2, 1.0), rng.uniform(1, 4), rng.uniform(4, 12)])
        return faults, not_run

    def _strike(self) -> None:
        rng = self.rng
        for number, kind in self.not_run:
            self._add(1.0, "nemesis", Kind.FAULT, Phase.NOT_RUN, number, {"kind": kind, "why": "no libfaketime here"})
        for fault in self.faults:
            about = {"kind": fault.kind, "target": fault.target, "params": {}}
            injected = fault.inject + rng.uniform(0.001, 0.05)
            at = {
                Phase.INJECT: fault.inject,
                Phase.INJECTED: injected,
                Phase.VERIFIED: injected + rng.uniform(0.001, 0.1),
                Phase.HEAL: fault.heal,
                Phase.HEALED: fault.healed,
            }
            for phase, t in at.items():
                self._add(t, "nemesis", Kind.FAULT, phase, fault.number, about)
            if fault.kind in ("crash", "terminate"):
                code = -9 if fault.kind == "crash" else 0
                self._add(injected, fault.target, Kind.NODE, "exited", fault.target, {"code": code, "expected": True})
                self._add(fault.heal, fault.target, Kind.NODE, "started", fault.target, {})

    def _down(self, t: float) -> bool:
        return any(fault.postgres and not fault.left and fault.inject <= t < fault.healed for fault in self.faults)

    def _produce(self) -> float:
        """All enqueues; returns when the last was answered."""
        rng, serial, number, last = self.rng, 0, 0, 0.1
        count = -(-self.records // self.batch)
        while serial < self.records:
            n = min(self.batch, self.records - serial)
            t = 0.1 + self.arrive_s * number / count
            last = max(last, self._enqueue(f"producer-{rng.randint(1, 3)}", t, serial, n))
            serial, number = serial + n, number + 1
        for fault in self.faults:  # each one meets a record that has just come
            before = next((t for t in (fault.inject - 0.1, fault.inject - 0.002) if not self._down(t)), None)
            if before is not None:
                last = max(last, self._enqueue("producer-1", before, serial, 1, sure=True))
                serial += 1
        return last + 0.05

    def _enqueue(self, producer: str, t: float, first: int, n: int, *, sure: bool = False) -> float:
        rng = self.rng
        for _ in range(100):
            answered = t + rng.uniform(0.005, 0.05)
            down, luck = self._down(t), 0.0 if sure else rng.random()
            self._add(t, producer, Kind.INVOKE, "enqueue", first, n)
            if not down and luck < 0.97:
                self._committed(first, n, t)
                self._add(answered, producer, Kind.OK, "enqueue", first, n)
                return answered
            if luck > 0.995:  # the producer died: no answer
                self._perhaps(first, n, t, down)
                return answered
            if luck > 0.6:
                self._perhaps(first, n, t, down)
                self._add(answered, producer, Kind.INFO, "enqueue", first, n)
                if rng.random() < 0.5:
                    return answered
            else:
                self._add(answered, producer, Kind.FAIL, "enqueue", first, n)
                if rng.random() < 0.1:
                    return answered
            t = answered + rng.uniform(0.1, 0.6)
        return t

    def _perhaps(self, first: int, n: int, t: float, down: bool) -> None:
        if not down and self.rng.random() < 0.5:
            self._committed(first, n, t)

    def _committed(self, first: int, n: int, t: float) -> None:
        for serial in range(first, first + n):
            self.alive.setdefault(serial, t + 0.002)

    def _work(self) -> dict[int, float]:
        """When each record is done."""
        rng, done, t, credit = self.rng, dict[int, float](), 0.0, 0.0
        queue = [(at + rng.uniform(0.2, 0.4), serial) for serial, at in self.alive.items()]
        heapq.heapify(queue)
        while queue:
            t += _STEP_S
            share = 1.0
            for fault in self.faults:
                share *= fault.share(t)
            able = share > 0 and queue[0][0] <= t
            credit = credit + self.pace * share * _STEP_S * rng.uniform(0.8, 1.2) if able else 0.0
            while queue and credit >= 1 and queue[0][0] <= t:
                _, serial = heapq.heappop(queue)
                credit -= 1
                if rng.random() < 0.01:
                    heapq.heappush(queue, (t + rng.uniform(0.2, 1.5), serial))
                else:
                    done[serial] = t
        return done

    def _samples(self, done: dict[int, float], until: float) -> None:
        rng = self.rng
        came, went = sorted(self.alive.values()), sorted(done.values())
        into, out, t, dead = 0, 0, 0.15, 0
        while t < until:
            while into < len(came) and came[into] <= t:
                into += 1
            while out < len(went) and went[out] <= t:
                out += 1
            nodes = {worker: [90_000_000 + rng.randint(0, 9_000_000), round(t / 2, 2), True] for worker in self.workers}
            sample: dict[str, Any] = dict.fromkeys(("done", "dead", "waiting", "leased", "connections"))
            if not self._down(t):
                dead = max(dead, out // 200)
                leased = min(into - out, self.batch * len(self.workers))
                sample |= {"done": out - dead, "dead": dead, "waiting": into - out - leased, "leased": leased}
                sample["connections"] = 2 * len(self.workers)
            self._add(t, "probe", Kind.METRIC, "sample", None, {**sample, "nodes": nodes})
            t += _SAMPLE_S + rng.uniform(-0.02, 0.02)

    def _leases(self, done: dict[int, float], until: float) -> None:
        rng, held = self.rng, dict[int, tuple[str, int]]()
        t, order = 0.4, sorted(done, key=done.__getitem__)
        at = 0
        while t < until - 0.3:
            while at < len(order) and done[order[at]] <= t:
                at += 1
            for serial in order[at : at + 2 * self.batch : self.batch]:
                chunk = 1 + serial // self.batch
                owner, epoch = held.get(chunk, ("", 0))
                if not owner or rng.random() < 0.1:
                    owner, epoch = rng.choice(self.owners[rng.choice(self.workers)]), epoch + 1
                held[chunk] = owner, epoch
                left = rng.uniform(-1.5, 0) if rng.random() < 0.05 else rng.uniform(1, self.ttl_s)
                self._add(t, "probe", Kind.PROBE, "lease", chunk, [owner, epoch, round(left, 3)])
            t += 1.0

    def _outcome(self, serial: int, done: dict[int, float]) -> Outcome:
        rng = self.rng
        writer = rng.choice(self.workers)
        owner = rng.choice(self.owners[writer])
        enqueued, finished = round(self.alive[serial], 6), round(done[serial], 6)
        if rng.random() < 0.01:
            return Outcome(0, 0 if self.effects else -1, 1, 0, None, owner, enqueued, finished)
        return Outcome(1, 1 if self.effects else -1, 0, 0, writer, owner, enqueued, finished)
