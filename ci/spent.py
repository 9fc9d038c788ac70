"""`python -m ci.spent FOLDER`: where the time of a run went, longest first.

FOLDER has nox's reports (*.json) and files of steps (*.steps: name, seconds and exit code, separated by tabs).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path


def spent(folder: Path) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and result of every session and step."""
    for report in sorted(folder.glob("*.json")):
        for session in json.loads(report.read_text())["sessions"]:
            name = (session["signatures"] or [session["name"]])[0]
            yield name, session["duration"], session["result"]
    for steps in sorted(folder.glob("*.steps")):
        for line in steps.read_text().splitlines():
            name, seconds, code = line.split("\t")
            yield name, float(seconds), "success" if code == "0" else f"exit code {code}"


def table(rows: Iterator[tuple[str, float, str]]) -> str:
    """One line each; lanes overlap, so the sum is more than the run took."""
    lines = [
        f"{seconds:7.0f} s  {name:<24} {result}" for name, seconds, result in sorted(rows, key=lambda row: -row[1])
    ]
    return "\n".join(["where the time went", *lines])


if __name__ == "__main__":
    print(table(spent(Path(sys.argv[1]))))
