"""`python -m benchmarks`: measure, print a table, write JSON. Exit code 1 if a bar is missed."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import report, trend
from benchmarks.bench import Bench
from benchmarks.catalogue import GROUPS, MEASUREMENTS
from benchmarks.figures import Figure
from rpa_testkit.interrupts import run_until_interrupted
from rpa_testkit.postgres import EmbeddedPostgres

_REPORT = Path("reports/benchmark/benchmark.json")
_HELP = f"one or several of {', '.join(GROUPS)} (default: runtime)"


def main() -> int:
    """Run what was asked for; returns the exit code."""
    options = _parser().parse_args()
    console = Console()
    found: dict[str, list[Figure]] = {}
    runs = 1 if options.quick else options.runs
    with EmbeddedPostgres() as server, tempfile.TemporaryDirectory(prefix="rpa-benchmark-") as folder:
        bench = Bench(
            server=server,
            folder=Path(folder),
            runs=runs,
            quick=options.quick,
            say=lambda text: console.print(f"  [dim]{text}[/]"),
        )
        groups = [options.groups] if isinstance(options.groups, str) else options.groups
        for name in options.only or [name for group in groups for name in GROUPS[group]]:
            console.print(f"[bold]{name}[/]")
            found[name] = list(MEASUREMENTS[name](bench))
        postgres = server.version
    figures = [figure for several in found.values() for figure in several]
    console.print(report.table(figures, quick=options.quick))
    report.write(options.json, found, quick=options.quick, runs=runs, postgres=postgres)
    console.print(f"All samples: {options.json}")
    if options.trend:
        console.print(f"What changed: {trend.record(options.trend, json.loads(options.json.read_text()))}")
    return 0 if options.quick or all(figure.ok is not False for figure in figures) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory against bars.")
    names = tuple(GROUPS)
    parser.add_argument("groups", nargs="*", choices=names, default="runtime", metavar="GROUP", help=_HELP)
    parser.add_argument("--only", action="append", choices=tuple(MEASUREMENTS), help="may be given several times")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run: only proves that it works")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side; medians are reported (default: 5)")
    parser.add_argument("--json", type=Path, default=_REPORT, help=f"where the report goes (default: {_REPORT})")
    parser.add_argument("--trend", type=Path, metavar="FILE", help="add the run to this store, show what changed")
    return parser


if __name__ == "__main__":
    sys.exit(run_until_interrupted(main))
