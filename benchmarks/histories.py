"""A history as a run of the testkit leaves it, of any size, in which nothing went wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rpa_testkit.history.entries import Header, Kind, Outcome, Phase
from rpa_testkit.history.reader import HISTORY, History
from rpa_testkit.history.writer import HistoryWriter

_WORKERS = ("worker-1", "worker-2", "worker-3")
_STRUCK = (  # kind, target, how long it is held in seconds
    ("pause", "worker-1", 0.8),
    ("partition", "worker-3->postgres", 0.9),
    ("latency", "worker-1->postgres", 1.0),
    ("reset", "worker-2->postgres", 0.1),
    ("cpu", "worker-2", 0.7),
)
_BATCH = 500
_PACE = 2_500.0  # records/s
_SAMPLE_S = 0.5
_LATENCY_S = 0.2
_LEASE_S = 10.0
_BLOCK = 5_000

_Line = tuple[float, str, Kind, str, Any, Any]


def write(folder: Path, records: int, faults: int) -> History:
    """Records come and are done at an even pace, with faults all along; the same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    span_s = records / _PACE + 1.0
    writer = HistoryWriter(folder / HISTORY, _header(records))
    for t, actor, kind, op, key, value in sorted(_running(records, faults, span_s), key=lambda line: line[0]):
        writer.add(actor, kind, op, key, value, t=t)
    rand = random.Random(1)
    for first in range(0, records, _BLOCK):
        block = [(serial, _outcome(serial, rand)) for serial in range(first, min(records, first + _BLOCK))]
        writer.extend("observer", Kind.OUTCOME, "record", block, t=span_s + 1.0)
    for what, found in (("connections", {"count": 0}), ("processes", [])):
        writer.add("observer", Kind.OBSERVE, what, None, found, t=span_s + 1.5)
    writer.add("runner", Kind.MARK, "ended", t=span_s + 2.0)
    writer.close()
    return History.open(folder)


def _header(records: int) -> Header:
    return Header(
        run_id="made",
        scenario="made",
        driver="process",
        seed=1,
        started_at="2026-01-01T00:00:00+00:00",
        workload={"records": records, "rate": 0.0, "batch": _BATCH, "retry_share": 0.0, "reject_share": 0.005},
        steady_state={"recovery_s": 20.0, "recovered_share": 0.5, "drain_s": 60.0, "within_s": 30.0, "min_rate": 100.0},
        topology={"workers": list(_WORKERS), "max_connections": 100, "lease_ttl_s": _LEASE_S},
        machine={"cpus": 2, "memory_bytes": 8 << 30, "system": "Linux"},
    )


def _enqueued_s(serial: int) -> float:
    return 0.5 + serial // _BATCH * _BATCH / _PACE


def _outcome(serial: int, rand: random.Random) -> Outcome:
    """One in two hundred is set aside."""
    enqueued = _enqueued_s(serial)
    done = enqueued + _LATENCY_S * rand.uniform(0.5, 1.5) + serial % _BATCH / _PACE
    dead, worker = serial % 200 == 199, _WORKERS[serial // _BATCH % len(_WORKERS)]
    results = 0 if dead else 1
    writer = None if dead else worker
    return Outcome(results, results, int(dead), 0, writer, f"{worker}:1", round(enqueued, 6), round(done, 6))


def _running(records: int, faults: int, span_s: float) -> Iterator[_Line]:
    """What is written while the run goes on."""
    yield 0.0, "runner", Kind.MARK, "begun", None, None
    for node in _WORKERS:
        yield 0.1, node, Kind.NODE, "started", node, {}
        yield 0.2, node, Kind.NODE, "ready", node, {}
    yield 0.3, "runner", Kind.OBSERVE, "schedule", None, [[n + 1, _STRUCK[n % len(_STRUCK)][0]] for n in range(faults)]
    for first in range(0, records, _BATCH):
        t, n, producer = _enqueued_s(first), min(_BATCH, records - first), f"producer-{first // _BATCH % 2 + 1}"
        yield t - 0.004, producer, Kind.INVOKE, "enqueue", first, n
        yield t, producer, Kind.OK, "enqueue", first, n
    rand = random.Random(2)
    for number in range(int(span_s / _SAMPLE_S)):
        t = number * _SAMPLE_S
        yield t, "sampler", Kind.METRIC, "sample", None, _sample(t, records, rand)
        yield t, "sampler", Kind.PROBE, "lease", number, (f"{_WORKERS[number % 3]}:1", 1, _LEASE_S * 0.9)
    for number in range(faults):
        yield from _struck(number + 1, *_STRUCK[number % len(_STRUCK)], 1.0 + (span_s - 3.0) * number / max(1, faults))
    yield span_s, "runner", Kind.MARK, "workload-done", None, None
    yield span_s + 0.1, "runner", Kind.MARK, "healed", None, None
    yield span_s + 0.8, "runner", Kind.MARK, "drained", None, None


def _sample(t: float, records: int, rand: random.Random) -> dict[str, Any]:
    done = max(0, min(records, int((t - 0.7) * _PACE)))
    nodes = {
        name: (int((85 + 6 * rand.random()) * (1 << 20)), round(t * 0.4, 3), True) for name in (*_WORKERS, "postgres")
    }
    counts = {"done": done - done // 200, "dead": done // 200, "waiting": rand.randrange(500), "leased": 400}
    return counts | {"connections": 9, "nodes": nodes}


def _struck(number: int, kind: str, target: str, hold_s: float, at_s: float) -> Iterator[_Line]:
    about = {"kind": kind, "target": target, "params": {}}
    lives = {Phase.INJECT: 0.0, Phase.INJECTED: 0.01, Phase.VERIFIED: 0.02, Phase.HEAL: hold_s, Phase.HEALED: 0.05}
    t = at_s
    for phase, later_s in lives.items():
        t += later_s
        yield round(t, 6), "injector", Kind.FAULT, phase, number, about
