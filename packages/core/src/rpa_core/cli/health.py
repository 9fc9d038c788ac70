"""`rpa health`: asks a container's own HTTP surface; made to be a container's HEALTHCHECK.

Exits 0 (healthy or degraded) or 1 (anything else): Docker reserves 2. Imports the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from rpa_core.health.ports import Announced, announced
from rpa_core.observability.printable import ascii_json, printable

if TYPE_CHECKING:
    import click

SCOPES = {"ready": "/health/ready", "live": "/health/live", "startup": "/health/startup", "all": "/health"}
_MOST_BYTES = 1024 * 1024


def run(args: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Ask and print; returns 0 or 1."""
    parser = _parser()
    try:
        given = parser.parse_args(args)
    except SystemExit as error:  # argparse ends a wrong call with 2, which a health check must not
        return 1 if error.code else 0
    url, others = (
        (given.url, []) if given.url else _default_url(os.environ if environ is None else environ, given.scope)
    )
    healthy, body = ask(url, given.timeout)
    for other in others:
        print(f"rpa: another worker, of {other.flow}, listens on port {other.port}: --url asks it", file=sys.stderr)
    if given.json:
        print(ascii_json({"healthy": healthy, "url": url, **body}))
    else:
        print("\n".join(map(printable, describe(healthy, url, body))), file=sys.stdout if healthy else sys.stderr)
    return 0 if healthy else 1


def ask(url: str, timeout_s: float) -> tuple[bool, dict[str, Any]]:
    """(healthy, the answer's JSON or an `output` that says what went wrong). Never raises for what the net does."""
    if not url.startswith(("http://", "https://")):
        return False, {"status": "fail", "output": "the URL must start with http:// or https://"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the container itself: never by proxy
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return True, _body(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return False, {"output": f"HTTP {error.code}", **_body(error.read(_MOST_BYTES))}
    except TimeoutError:
        return False, {"status": "fail", "output": f"no answer within {timeout_s:g} s"}
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return False, {"status": "fail", "output": f"cannot be asked: {reason}"}


def describe(healthy: bool, url: str, body: Mapping[str, Any]) -> list[str]:
    """Lines for a person: the state, then each check that has something to say."""
    output = str(body.get("output") or "")
    lines = [f"{'healthy' if healthy else 'NOT healthy'}: {url}{' - ' + output if output else ''}"]
    checks = body.get("checks")
    for name, entries in checks.items() if isinstance(checks, dict) else ():
        lines += [
            f"  {entry.get('status', '?'):<5} {name}  {entry.get('output', '')}".rstrip()
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict)
        ]
    return lines


def _body(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):  # a proxy's page, or a health endpoint of another kind
        return {}
    return found if isinstance(found, dict) else {}


def _default_url(environ: Mapping[str, str], scope: str) -> tuple[str, list[Announced]]:
    """The address to ask, and other workers that may be meant."""
    host = _text(environ, "CONTAINER_HEALTH_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - told apart, not bound
    port, others = _text(environ, "CONTAINER_HEALTH_PORT") or "0", []
    if port == "0":  # the worker took the default, or the next free one, and wrote it down
        found = announced()
        flow = _text(environ, "CONTAINER_FLOW_NAME")
        meant = [each for each in found if each.flow == flow] or found
        port = str(meant[0].port) if meant else "8080"
        others = meant[1:]
    return f"http://{host}:{port}{SCOPES[scope]}", others


def _text(environ: Mapping[str, str], name: str) -> str:
    """A variable without what editors and platforms put around it, as the worker reads it."""
    return environ.get(name, "").removeprefix("\ufeff").strip()


def _parser() -> argparse.ArgumentParser:
    text = "Ask a running container how it is. Exit code 0: healthy or degraded, 1: anything else."
    parser = argparse.ArgumentParser(prog="rpa health", description=text)
    parser.add_argument(
        "--scope", choices=sorted(SCOPES), default="ready", help="which question to ask (default: %(default)s)"
    )
    parser.add_argument(
        "--url", help="address to ask; default: CONTAINER_HEALTH_HOST and _PORT on this machine, by scope"
    )
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def __getattr__(name: str) -> click.Command:
    """`command`: the same behind click, for `rpa --help` and completion."""
    if name != "command":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import click as clicks

    @clicks.command("health", add_help_option=False, context_settings={"ignore_unknown_options": True})
    @clicks.argument("args", nargs=-1, type=clicks.UNPROCESSED)
    def command(args: tuple[str, ...]) -> int:
        """Ask a running container how it is (exit 0 or 1)."""
        return run(args)

    return command
