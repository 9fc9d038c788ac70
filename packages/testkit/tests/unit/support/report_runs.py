"""Past runs with the noise that figures have, and stores made of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from rpa_testkit.reports.store import Run

_SIGMA = 0.08


def noise(rand: random.Random, runs: int, level: float = 1_000.0) -> list[float]:
    """A figure that varies by 8 % about its level."""
    return [level * math.exp(rand.gauss(0, _SIGMA)) for _ in range(runs)]


def run(number: int, **given: Any) -> Run:
    """One run, a minute after the one before it."""
    values: dict[str, Any] = {
        "run_id": f"run-{number:03}",
        "started_at": f"2026-01-01T{number // 60:02}:{number % 60:02}:00+00:00",
        "scenario": "exactly-once",
        "driver": "process",
        "machine": "4 cpus",
        "seed": number,
        "status": "pass",
        "figures": {},
        "versions": {"rpa-core": "0.1.0"},
    }
    return Run(**{**values, **given})


def store_of(path: Path, runs: Iterable[Run]) -> Path:
    """A store in a folder; returns the folder."""
    (path / "runs.jsonl").write_bytes(b"".join(orjson.dumps(asdict(run)) + b"\n" for run in runs))
    return path


def sample_runs() -> list[Run]:
    """Three keys: one that slowed down with a version, one whose last verdict turned, one with few runs."""
    rand = random.Random(4)
    made = []
    for driver, count in (("process", 40), ("docker", 12), ("other", 3)):
        for n in range(count):
            slow = 0.75 if driver == "process" and n >= 30 else 1.0
            turned = driver == "docker" and n == count - 1
            (pace, p99, recovery, peak) = (noise(rand, 1, level)[0] for level in (900.0, 0.31, 2.2, 98.0 * (1 << 20)))
            made.append(
                run(
                    n,
                    run_id=f"{driver}-{n:03}",
                    driver=driver,
                    status="fail" if turned else "pass",
                    failed=("no-duplicates",) if turned else (),
                    figures={"throughput": pace * slow, "p99": p99 / slow, "recovery": recovery, "peak_rss": peak},
                    versions={"rpa-core": "0.1.1" if slow < 1 else "0.1.0", "PostgreSQL": "18.1"},
                )
            )
    return made
