"""`python -m rpa_flows.deployments register|list`: rpa's flows on the Prefect server at PREFECT_API_URL."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rpa_core.errors import RpaError, UsageError
from rpa_core.runtime.flows import installed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 64 usage, 69 the server is away, 78 it refuses."""
    options = _parser().parse_args(arguments)
    try:
        return _register(options) if options.command == "register" else _list()
    except RpaError as error:
        print(f"rpa_flows.deployments: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prefect":
            raise
        print("rpa_flows.deployments: Prefect is not installed; run: pip install 'rpa-flows[prefect]'", file=sys.stderr)
        return UsageError.exit_code


def _register(options: argparse.Namespace) -> int:
    from rpa_flows.deployments.registry import Wanted, full_name, open_registry, schedules

    known = installed()
    unknown = sorted(set(options.flow) - set(known))
    if unknown:
        raise UsageError(f"no flow is called {', '.join(unknown)} (installed: {', '.join(sorted(known)) or 'none'})")
    crons = schedules(options.schedule, known)
    with open_registry() as registry:
        if registry.ensure_pool(options.pool, create=options.create_pool):
            print(f"work pool {options.pool}: created")
        for flow in sorted(set(options.flow) | (set(crons) if options.flow else set(known))):
            wanted = Wanted(flow=flow, pool=options.pool, cron=crons.get(flow), image=options.image)
            print(f"{full_name(flow)}: {registry.register(wanted)}")
    return 0


def _list() -> int:
    from rpa_flows.deployments.registry import open_registry

    with open_registry() as registry:
        for flow in sorted(installed()):
            found = registry.find(flow)
            where = f"work pool {found.pool}" if found.pool else "not registered"
            print("  ".join([found.name, where, *found.schedules]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rpa_flows.deployments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    register = commands.add_parser("register", help="make the deployments of all installed flows, or correct them")
    register.add_argument("--pool", required=True, help="the work pool whose workers run the flows")
    register.add_argument(
        "--create-pool",
        nargs="?",
        const="process",
        metavar="TYPE",
        help="make the pool if there is none (default: process)",
    )
    register.add_argument("--flow", action="append", default=[], help="this flow alone; may be given several times")
    register.add_argument(
        "--schedule",
        action="append",
        default=[],
        metavar="FLOW=CRON",
        help="start it at these times (UTC), such as 'rpa2=*/15 * * * *'; 'rpa2=' takes the schedule away",
    )
    register.add_argument("--image", help="for pools that run containers: the image to run the flow in")
    commands.add_parser("list", help="the installed flows, their pools and schedules")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
