"""What Prefect knows of the workers' lives, read from the real server over its REST API."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rpa_testkit.history.entries import Kind
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.runner.lives import Life

_PAGE = 200
_ASK_S = 20.0


def observe_reports(base_url: str, lives: Sequence[Life], history: HistoryWriter) -> None:
    """Write a line per flow run, and how many there are; where the server cannot be read, the reason instead."""
    told = {life.incarnation: life for life in lives}
    try:
        runs = list(_all(base_url, "flow_runs", {"sort": "START_TIME_ASC"}))
        values = [(run["id"], _seen(base_url, run, told)) for run in runs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        history.add("observer", Kind.OBSERVE, "prefect-unread", None, f"{type(error).__name__}: {error}")
        return
    history.extend("observer", Kind.OBSERVE, "prefect-run", values)
    history.add("observer", Kind.OBSERVE, "prefect", None, {"runs": len(runs)})


def compare(told: Sequence[str], kept: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How the lines that Prefect has, (time, text) by time, differ from those of the life, in order.

    What the life said before its first line here is left out. `twice` counts lines that are there again, at the same
    time; `missing` those that are not there; `disordered` is whether the others stand in another order.
    """
    once = list(dict.fromkeys(kept))
    at, found, disordered = 0, 0, False
    begun = False
    for _, text in once:
        begun = begun or (bool(told) and _same(told[0], text))
        if not begun:
            continue
        ahead = next((n for n in range(at, len(told)) if _same(told[n], text)), None)
        if ahead is not None:
            at, found = ahead + 1, found + 1
        elif any(_same(line, text) for line in told[:at]):
            disordered = True
    return {
        "lines": len(kept),
        "twice": len(kept) - len(once),
        "missing": len(told) - found,
        "disordered": disordered,
    }


def _same(line: str, kept: str) -> bool:
    return kept.startswith(line) or kept.split("\n", 1)[0] == line.split("\n", 1)[0]


def _seen(base_url: str, run: Mapping[str, Any], told: Mapping[str, Life]) -> dict[str, Any]:
    incarnation = (run.get("labels") or {}).get("incarnation")
    logs = list(_all(base_url, "logs", {"sort": "TIMESTAMP_ASC", "logs": {"flow_run_id": {"any_": [run["id"]]}}}))
    life = told.get(str(incarnation))
    lines = compare(life.lines, [(log["timestamp"], log["message"]) for log in logs]) if life is not None else {}
    return {"incarnation": incarnation, "name": run["name"], "state": run["state_type"], **lines}


def _all(base_url: str, what: str, query: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    offset = 0
    while True:
        body = json.dumps({**query, "limit": _PAGE, "offset": offset}).encode()
        request = urllib.request.Request(  # noqa: S310 - a loopback URL of ours
            f"{base_url}/api/{what}/filter", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_ASK_S) as answer:  # noqa: S310 - as above
            page = json.load(answer)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
