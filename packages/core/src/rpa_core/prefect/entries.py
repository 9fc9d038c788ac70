"""Entries for the spool: pure functions, the same arguments make the same entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import orjson

from rpa_core.prefect.model import KIND, Counts, EndState, Run
from rpa_core.resilience.spool.model import New

What = Literal["begin", "logs", "progress", "summary", "end"]
_WHATS = frozenset(What.__args__)  # type: ignore[attr-defined]  # a Literal's values are not in its type


class Line(NamedTuple):
    """A log line as Prefect stores it; `timestamp` is RFC 3339 with microseconds, unique within its run."""

    name: str
    level: int
    message: str
    timestamp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An entry's body, read: what is told, of which run, with what."""

    what: What
    run: Run
    data: dict[str, Any]


def begin(run: Run) -> New:
    """The run exists and is RUNNING."""
    return _new(run, "begin", "begin", {})


def logs(run: Run, first: int, lines: Sequence[Line]) -> New:
    """Log lines number `first` and following of the run; may be dropped when there is no room."""
    return _new(run, "logs", f"logs:{first}", {"first": first, "lines": [list(line) for line in lines]}, keep=False)


def progress(run: Run, number: int, at: str, counts: Counts, per_second: float) -> New:
    """What was done up to the time `at`; `per_second` is the rate of done records since the report before."""
    data = {
        "id": run.unique(f"progress:{number}"),
        "at": at,
        "payload": {**counts._asdict(), "per_second": round(per_second, 3)},
    }
    return _new(run, "progress", f"progress:{number}", data, keep=False)


def summary(run: Run, state: EndState, message: str, ended_at: str, counts: Counts, elapsed_s: float) -> New:
    """The artifact that a run leaves: one table of what became of its records."""
    rows = [
        ("Ended", f"{state}: {message}" if message else state),
        ("Started", run.started_at),
        ("Finished", ended_at),
        ("Took", f"{elapsed_s:.1f} s"),
        ("Host", run.host),
        ("Version", run.version),
        ("Incarnation", run.incarnation),
        *((name.replace("_", " ").capitalize(), str(count)) for name, count in counts._asdict().items()),
        ("Done per second", f"{counts.done / elapsed_s:.1f}" if elapsed_s > 0 else "0.0"),
    ]
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows)
    return _new(run, "summary", "summary", {"key": artifact_key(run.flow), "markdown": f"| | |\n|---|---|\n{table}\n"})


def end(run: Run, state: EndState, message: str, labels: dict[str, str], *, by_another: bool = False) -> New:
    """The run's last state. `by_another`: put by a later life; the run's own word, if it left one, comes first."""
    data = {
        "state": state.upper(),
        "message": message,
        "labels": labels,
        "transition": run.unique(f"end:{state}:{by_another}"),
        "by_another": by_another,
    }
    return _new(run, "end", "end", data)


def read(body: bytes) -> Letter:
    """Raises ValueError for what none of the above made."""
    fields = orjson.loads(body)
    if not isinstance(fields, dict) or fields.get("what") not in _WHATS or not isinstance(fields.get("data"), dict):
        raise ValueError("not a report to Prefect")
    return Letter(what=fields["what"], run=Run.decoded(fields.get("run")), data=fields["data"])


def artifact_key(flow: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return f"{re.sub(r'[^a-z0-9]+', '-', flow.lower()).strip('-') or 'flow'}-summary"


def _new(run: Run, what: What, name: str, data: dict[str, Any], *, keep: bool = True) -> New:
    body = orjson.dumps({"what": what, "run": asdict(run), "data": data})
    return New(id=f"{run.id}:{name}", kind=KIND, stream=run.id, body=body, keep=keep)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
