"""`python -m rpa_testkit.proxy --control HOST:PORT --seed N`: the proxy's process.

Prints one JSON line, {"host", "port"} of the control channel, when it is ready; ends on SIGTERM and SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys

from rpa_testkit.proxy.control import Control


async def _serve(host: str, port: int, seed: int, *, owned: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await asyncio.start_server(Control(seed).serve, host, port)
    if owned:
        loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever sent: readable means that the owner is gone
    bound_host, bound_port = server.sockets[0].getsockname()[:2]
    try:
        print(json.dumps({"host": bound_host, "port": bound_port}), flush=True)
    except BrokenPipeError:  # the owner is gone already
        os._exit(0)
    await ended.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m rpa_testkit.proxy", description=__doc__)
    parser.add_argument(
        "--control", required=True, metavar="HOST:PORT", help="where to listen for control; port 0: any"
    )
    parser.add_argument("--seed", required=True, type=int, help="of the jitter")
    parser.add_argument("--owned", action="store_true", help="end when stdin ends")
    options = parser.parse_args()
    host, _, port = options.control.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--control takes HOST:PORT, such as 127.0.0.1:0, not {options.control!r}")
    asyncio.run(_serve(host, int(port), options.seed, owned=options.owned))


if __name__ == "__main__":
    main()
