"""Histories as a run would leave them, and judgements on them: seeded, of any size, with faults of one's choice."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpa_testkit.checkers.verdict import Evidence, Judgement, Status, Verdict
from rpa_testkit.history.entries import Header, Kind, Phase
from rpa_testkit.history.reader import History
from rpa_testkit.history.writer import HistoryWriter

_BATCH = 500
_BLOCK = 5_000
_SAMPLE_S = 0.5
_KINDS = (
    ("crash", "worker-2", 0.4),
    ("pause", "worker-1", 6.0),
    ("partition", "worker-3->postgres", 3.0),
    ("latency", "worker-1->postgres", 4.0),
    ("reset", "worker-2->postgres", 0.1),
    ("postgres-crash", "postgres", 1.5),
    ("backends-terminated", "postgres", 0.2),
    ("memory", "worker-3", 1.0),
    ("cpu", "worker-1", 5.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One fault of a made-up run. `end` is `healed`, `unhealed`, `unverified` or `not-run`."""

    id: int
    kind: str
    target: str
    at_s: float
    hold_s: float
    end: str = "healed"

    @property
    def slows(self) -> float:
        """How much of the pace is left under it."""
        return 0.03 if self.target == "postgres" else 0.55


def faults(count: int, seed: int, *, until_s: float) -> list[Planted]:
    """Spread over the run, each kind in its turn, PostgreSQL's more rarely."""
    rand = random.Random(seed)
    step = until_s / (count + 1)
    made = []
    for number in range(count):
        kind, target, hold_s = _KINDS[number % len(_KINDS)]
        at_s = step * (number + 0.6 + rand.random() * 0.4)
        made.append(Planted(id=number + 1, kind=kind, target=target, at_s=at_s, hold_s=min(hold_s, step * 1.5)))
    return made


def header(run_id: str = "exactly-once-7f3a", **given: Any) -> Header:
    """A header with everything that a report shows."""
    values: dict[str, Any] = {
        "scenario": "exactly-once",
        "driver": "process",
        "seed": 4711,
        "started_at": "2026-03-02T03:14:15+00:00",
        "checkers": ("no-lost", "no-duplicates", "recovery"),
        "workload": {"records": 20_000, "rate": 0.0, "batch": _BATCH, "retry_share": 0.01, "reject_share": 0.005},
        "steady_state": {"recovery_s": 20.0, "recovered_share": 0.9, "drain_s": 60.0, "within_s": 30.0},
        "topology": {"workers": ["worker-1", "worker-2", "worker-3"], "max_connections": 100},
        "versions": {"rpa-testkit": "0.1.0", "rpa-core": "0.1.0", "PostgreSQL": "18.1", "Python": "3.13.2"},
        "machine": {"cpus": 4, "memory_bytes": 16 << 30, "system": "Linux"},
        "replay": f"rpa-testkit replay reports/chaos/{run_id}",
    }
    return Header(run_id=run_id, **{**values, **given})


def write_history(
    folder: Path,
    *,
    records: int = 20_000,
    pace: float = 500.0,
    planted: Sequence[Planted] = (),
    seed: int = 1,
    lease_s: float = 10.0,
    head: Header | None = None,
    twice: Sequence[int] = (),
    missing: Sequence[int] = (),
) -> History:
    """A run at about `pace` records/s; `twice` and `missing` are serials whose outcome is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "history.jsonl"
    writer = HistoryWriter(path, head or header())
    lines = sorted(_running(records, pace, planted, seed, lease_s), key=lambda line: line[0])
    for t, actor, kind, op, key, value in lines:
        writer.add(actor, kind, op, key, value, t=t)
    end = lines[-1][0] if lines else 0.0
    wrong, gone = frozenset(twice), frozenset(missing)
    block: list[tuple[Any, Any]] = []
    for serial, enqueued, done in _outcomes(records, pace, planted, seed):
        end = max(end, done)
        dead = 1 if serial % 200 == 199 else 0
        results = 0 if dead else 1
        if serial not in gone:
            effects = 2 if serial in wrong else results
            block.append(
                (serial, (results, effects, dead, 0, "worker-1", "worker-1", round(enqueued, 4), round(done, 4)))
            )
        if len(block) >= _BLOCK:
            writer.extend("observer", Kind.OUTCOME, "record", block, t=end + 1.0)
            block.clear()
    writer.extend("observer", Kind.OUTCOME, "record", block, t=end + 1.0)
    writer.add("runner", Kind.MARK, "ended", t=end + 1.5)
    writer.close()
    return History.open(path)


def judgement(*verdicts: Verdict, run_id: str = "exactly-once-7f3a") -> Judgement:
    """Those given; without any, three that passed."""
    return Judgement(
        run_id=run_id, verdicts=verdicts or (passed("no-lost"), passed("no-duplicates"), passed("recovery"))
    )


def passed(checker: str, says: str = "as it should be", **figures: Any) -> Verdict:
    """A verdict that passed."""
    return Verdict(checker=checker, status=Status.PASS, says=says, figures=figures)


def failed(checker: str, says: str, *evidence: Evidence, found: int | None = None, **figures: Any) -> Verdict:
    """A verdict that failed."""
    number = len(evidence) if found is None else found
    return Verdict(checker=checker, status=Status.FAIL, says=says, found=number, evidence=evidence, figures=figures)


def _pace_at(t: float, planted: Sequence[Planted], rand: random.Random) -> float:
    left = 1.0
    for fault in planted:
        if fault.end == "not-run":
            continue
        healed = fault.at_s + fault.hold_s
        if fault.at_s <= t < healed:
            left *= fault.slows
        elif healed <= t < healed + 2.0:
            left *= fault.slows + (1 - fault.slows) * (t - healed) / 2.0
    return max(0.02, left) * math.exp(rand.gauss(0, 0.12))


def _lasts(records: int, pace: float, planted: Sequence[Planted], seed: int) -> float:
    """When the last outcome comes, drawn as `_outcomes` draws it."""
    return max((done for _, _, done in _outcomes(records, pace, planted, seed)), default=1.0)


def _outcomes(records: int, pace: float, planted: Sequence[Planted], seed: int) -> Iterator[tuple[int, float, float]]:
    """Serial, when it was enqueued, when it had its outcome."""
    rand = random.Random(seed)
    t, left, factor = 1.0, 0.0, 1.0
    for serial in range(records):
        if left <= 0:
            factor = _pace_at(t, planted, rand)
            left = pace * factor * 0.25
        left -= 1
        t += 1 / (pace * factor)
        latency = 0.04 / factor * math.exp(rand.gauss(0, 0.5))
        yield serial, max(0.0, t - latency), t


def _running(
    records: int, pace: float, planted: Sequence[Planted], seed: int, lease_s: float
) -> Iterator[tuple[float, str, Kind, str, Any, Any]]:
    span = _lasts(records, pace, planted, seed)
    yield 0.0, "runner", Kind.MARK, "begun", None, None
    rand = random.Random(seed + 1)
    for number, first in enumerate(range(0, records, _BATCH)):
        t = 0.5 + span * 0.9 * first / max(1, records)
        n = min(_BATCH, records - first)
        yield t, f"producer-{number % 2 + 1}", Kind.INVOKE, "enqueue", first, n
        yield t + 0.004, f"producer-{number % 2 + 1}", Kind.OK, "enqueue", first, n
    for number in range(int(span / _SAMPLE_S)):
        t = number * _SAMPLE_S
        down = {f.target for f in planted if f.at_s <= t < f.at_s + f.hold_s and f.kind in ("crash", "memory")}
        nodes = {
            name: (0, 0.0, False)
            if name in down
            else (
                int((85 + 6 * rand.random() + place * 4) * (1 << 20)),
                round(t * (0.4 + 0.1 * place) + rand.random() * 0.1, 3),
                True,
            )
            for place, name in enumerate(("worker-1", "worker-2", "worker-3", "postgres"))
        }
        away = any(f.target == "postgres" and f.at_s <= t < f.at_s + f.hold_s for f in planted)
        counts = {
            "done": None if away else int(t * pace),
            "dead": None if away else int(t * pace * 0.005),
            "waiting": None
            if away
            else int(300 + 200 * rand.random() + pace * sum(f.at_s <= t < f.at_s + f.hold_s + 2 for f in planted)),
            "leased": None if away else int(400 + 100 * rand.random()),
            "connections": None if away else 9 + int(3 * rand.random()),
        }
        yield t, "sampler", Kind.METRIC, "sample", None, {**counts, "nodes": nodes}
        if not away:
            yield (
                t,
                "sampler",
                Kind.PROBE,
                "lease",
                number,
                ("worker-1", 1, round(lease_s * (0.7 + 0.3 * rand.random()), 3)),
            )
    for fault in planted:
        yield from _life(fault)
    last = max((f.at_s + f.hold_s for f in planted if f.end != "not-run"), default=span)
    yield span, "runner", Kind.MARK, "workload-done", None, None
    yield max(span, last) + 0.1, "runner", Kind.MARK, "healed", None, None
    yield max(span, last) + 2.0, "runner", Kind.MARK, "drained", None, None


def _life(fault: Planted) -> Iterator[tuple[float, str, Kind, str, Any, Any]]:
    about = {"kind": fault.kind, "target": fault.target}

    def line(t: float, phase: Phase, **seen: Any) -> tuple[float, str, Kind, str, Any, Any]:
        return t, "injector", Kind.FAULT, phase, fault.id, {**about, **seen}

    if fault.end == "not-run":
        yield line(fault.at_s, Phase.NOT_RUN, why="the process driver cannot do this: <needs> a clock of its own")
        return
    at_s, healed = fault.at_s, fault.at_s + fault.hold_s
    yield line(at_s, Phase.INJECT, params={"share": 0.5}, hold_s=fault.hold_s)
    yield line(at_s + 0.01, Phase.INJECTED)
    if fault.end == "unverified":
        yield line(at_s + 0.02, Phase.UNVERIFIED, why="not seen within 5 s")
    else:
        yield line(at_s + 0.02, Phase.VERIFIED, state="T", pid=4242)
        if fault.kind in ("crash", "memory"):
            yield at_s + 0.03, "driver", Kind.NODE, "exited", fault.target, {"code": -9, "expected": True}
    yield line(healed - 0.01, Phase.HEAL)
    ended = Phase.UNHEALED if fault.end == "unhealed" else Phase.HEALED
    yield line(healed, ended, **({"why": "the bound is still there"} if ended is Phase.UNHEALED else {}))
