"""`python -m ci.versions`: one line of what a session ran with, for its log."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions


def line() -> str:
    """Python, machine and every installed distribution."""
    found = sorted({f"{each.name.lower().replace('_', '-')} {each.version}" for each in distributions()})
    system = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    return f"Python {platform.python_version()} on {system}: {', '.join(found)}"


if __name__ == "__main__":
    print(line())
