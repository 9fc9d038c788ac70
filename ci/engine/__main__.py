"""`python -m ci.engine start|stop|status`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from ci.engine.machine import look
from ci.engine.places import Places
from ci.engine.start import running, start, stop
from ci.errors import ToolError


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when done; for status, when an engine answers."""
    parser = argparse.ArgumentParser(prog="python -m ci.engine", description="a Docker Engine on a bare Debian machine")
    parser.add_argument("action", choices=["start", "stop", "status"])
    for field in fields(Places):
        if field.name != "options":
            parser.add_argument(f"--{field.name}", type=Path, default=field.default, metavar="PATH")
    parser.add_argument("--option", action="append", default=[], metavar="--X=Y", help="one more option for dockerd")
    given = vars(parser.parse_args(arguments))
    action, options = given.pop("action"), tuple(given.pop("option"))
    places = Places(**given, options=options)
    try:
        if action == "start":
            start(places)
            return 0
        if action == "stop":
            print("stopped" if stop(places) else "no engine runs that was started here: nothing to stop")
            return 0
        return status(places)
    except (ToolError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1


def status(places: Places) -> int:
    """Print what is there."""
    seen = look(places)
    pid = running(places)
    rows = {
        "engine": f"{seen.answers} answers" if seen.answers else "does not answer",
        "started here": f"yes, process {pid}, log {places.log}" if pid else "no",
        "docker command": "there" if seen.client else "missing",
        "compose": "there" if seen.compose else "missing",
        "buildx": "there" if seen.buildx else "missing",
        "packages to install": " ".join(seen.missing) or "none",
    }
    for name, value in rows.items():
        print(f"{name:<20} {value}")
    return 0 if seen.answers else 1


if __name__ == "__main__":
    raise SystemExit(main())
