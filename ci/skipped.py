"""`python -m ci.skipped JUNIT...`: fail if a test was skipped. What did not run is never reported as passed."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def skipped(report: Path) -> list[str]:
    """The skipped tests of a JUnit report with their reasons; an expected failure is not one."""
    tree = ElementTree.parse(report)  # noqa: S314 - written a moment ago by the test run itself
    return [
        f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}"
        for case in tree.iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


def main(arguments: list[str]) -> int:
    """Return 1 if any of the reports has a skipped test."""
    found = [line for argument in arguments for line in skipped(Path(argument))]
    for line in found:
        print(f"SKIPPED, which is a failure here: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
