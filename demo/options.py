"""What the demo is asked to do."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """records: generated ones, besides the real 944; workers: processes per flow; kills: SIGKILLs while they work."""

    records: int
    workers: int
    kills: int
    seed: int
    json: Path | None
    report: Path
    deadline_s: float


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line; argparse ends the process with 2 and a usage line if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="nox -s demo --", description="Run the survey flows, kill workers, and prove that nothing was lost."
    )
    parser.add_argument("--records", type=_at_least(0), default=20_000, help="generated records (default: 20000)")
    parser.add_argument("--workers", type=_at_least(1), default=2, help="worker processes per flow (default: 2)")
    parser.add_argument("--kills", type=_at_least(0), default=6, help="SIGKILLs while they work (default: 6)")
    parser.add_argument("--seed", type=int, default=1996, help="seed of records and kills (default: 1996)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verification as JSON")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        default=Path("reports/demo/survey.html"),
        help="where the survey's summary goes (default: reports/demo/survey.html)",
    )
    parser.add_argument("--deadline", type=float, default=600.0, metavar="S", help="give up after so many seconds")
    found = parser.parse_args(arguments)
    return Options(
        records=found.records,
        workers=found.workers,
        kills=found.kills,
        seed=found.seed,
        json=found.json,
        report=found.report,
        deadline_s=found.deadline,
    )


def _at_least(least: int) -> type[int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number  # type: ignore[return-value]  # argparse takes any callable
