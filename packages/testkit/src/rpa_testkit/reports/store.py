"""Past runs, one line each, in a file that is only ever appended to.

A line goes out in one write to a file opened for appending, so that runs side by side do not mix. A line that was cut
off by a crash is passed over when the file is read, and the next one begins on a line of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.reports.model import Report

STORE = "runs.jsonl"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is kept of a run. `figures` are those of `FIGURES` that it has, all positive; `failed` names checkers."""

    run_id: str
    started_at: str
    scenario: str
    driver: str
    machine: str
    seed: int
    status: str
    failed: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = _FORMAT

    @property
    def key(self) -> tuple[str, str, str]:
        """Runs with the same one can be compared."""
        return self.scenario, self.driver, self.machine


def record(report: Report, store: Path) -> Run:
    """Append the run to `store`, a folder or the file itself; a run's second line replaces its first."""
    run = run_of(report)
    line = orjson.dumps(asdict(run), option=orjson.OPT_APPEND_NEWLINE)
    file = file_of(store)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(handle, line)
        if written != len(line):
            raise OSError(
                f"{file}: only {written} of {len(line)} bytes could be written; the next run begins a new line"
            )
    finally:
        os.close(handle)
    return run


def read(store: Path) -> tuple[list[Run], int]:
    """All runs in the order in which they began, and how many lines could not be read. No store is no runs."""
    runs: dict[str, Run] = {}
    unreadable = 0
    file = file_of(store)
    if not file.exists():
        return [], 0
    with file.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                given = orjson.loads(line)
                if given["format"] != _FORMAT:
                    raise ValueError(given["format"])
                run = Run(**{**given, "failed": tuple(given["failed"])})
                runs[run.run_id] = run
            except (ValueError, TypeError, KeyError):
                unreadable += 1
    return sorted(runs.values(), key=lambda run: run.started_at), unreadable


def run_of(report: Report) -> Run:
    """The figures that are followed over runs."""
    header = report.header
    recoveries = [fault.recovery_s for fault in report.ran if fault.recovery_s is not None]
    figures = {
        "throughput": report.pace_rps,
        "p99": report.latency.p99_s if report.latency else 0.0,
        "recovery": sum(recoveries) / len(recoveries) if recoveries else 0.0,
        "peak_rss": float(max((node.peak_rss_bytes for node in report.nodes), default=0)),
    }
    return Run(
        run_id=header.run_id,
        started_at=header.started_at,
        scenario=header.scenario,
        driver=header.driver,
        machine=machine_class(header.machine),
        seed=header.seed,
        status=report.status.value,
        failed=tuple(verdict.checker for verdict in report.verdicts if verdict.status is not Status.PASS),
        figures={name: round(value, 6) for name, value in figures.items() if value > 0},
        versions=dict(header.versions),
    )


def machine_class(machine: Mapping[str, object]) -> str:
    """What makes machines comparable: the `class` given, else processors, memory to the GB, and system."""
    if given := machine.get("class"):
        return str(given)
    memory = machine.get("memory_bytes")
    parts = [
        f"{machine['cpus']} cpus" if "cpus" in machine else "",
        f"{memory / (1 << 30):.0f} GB" if isinstance(memory, int | float) else "",
        str(machine.get("system", "")),
    ]
    return ", ".join(filter(None, parts)) or "any machine"


def file_of(store: Path) -> Path:
    """The store's file, of a folder or of itself."""
    return store if store.suffix == ".jsonl" else store / STORE
