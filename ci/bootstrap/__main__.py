"""`python -m ci.bootstrap [NAME...] [--force] [--dry-run]`."""

from __future__ import annotations

import argparse
import sys

from ci.bootstrap.images import SERVICES
from ci.bootstrap.make import bootstrap
from ci.errors import ToolError


def main(arguments: list[str] | None = None) -> int:
    """Make the images; 1 with a message where that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ci.bootstrap", description="base and service images from packages")
    known = ", ".join(service.name for service in SERVICES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these (and what they are made from): {known}")
    parser.add_argument("--force", action="store_true", help="make them again, with the newest packages")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made, and why")
    given = parser.parse_args(arguments)
    try:
        bootstrap(names=given.names, force=given.force, dry_run=given.dry_run)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
