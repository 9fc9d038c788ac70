"""`python -m rpa_testkit.worker FLOW_SPEC`: the real worker, with checkpoints armed from the environment."""

from __future__ import annotations

import os
import sys

from rpa_testkit.armed import VARIABLE, ArmedCheckpoints, parse


def main(arguments: list[str]) -> int:
    """Run the flow as `rpa run` does; returns its exit code."""
    if len(arguments) != 1:
        print("usage: python -m rpa_testkit.worker FLOW_SPEC", file=sys.stderr)
        return 64
    from rpa_core.runtime.run import run_flow

    environ = dict(os.environ)
    checkpoints = ArmedCheckpoints(parse(environ.pop(VARIABLE, "")))
    return run_flow(arguments[0], environ, checkpoints=checkpoints)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
