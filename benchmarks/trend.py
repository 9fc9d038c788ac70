"""What changed since the runs before: an append-only store of JSON lines, one a run, and a table in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

_EARLIER = 8
_NOISE = 0.25  # what single figures differ by on machines that are shared, between one run and the next


def record(store: Path, content: Mapping[str, Any]) -> Path:
    """Add a run (what `report.write` writes) to `store`; write the table beside it and return where."""
    line = {
        "at": content["at"],
        "version": content["version"],
        "figures": {figure["name"]: [figure["value"], figure["unit"]] for figure in content["figures"]},
    }
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    page = store.with_suffix(".md")
    page.write_text(table(read(store)), encoding="utf-8")
    return page


def read(store: Path) -> Sequence[Mapping[str, Any]]:
    """The runs in `store`, the oldest first; a line that was cut off is passed over."""
    runs = []
    for line in store.read_text(encoding="utf-8").splitlines():
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The last of `runs` beside the median of up to eight before it; a change beyond the noise is set in bold."""
    last, earlier = runs[-1], runs[-1 - _EARLIER : -1]
    lines = [
        f"### Benchmarks, {last['at']}",
        "",
        f"| what | this run | median of {len(earlier)} before | change |",
        "|---|---:|---:|---:|",
    ]
    for name, (value, unit) in last["figures"].items():
        before = [run["figures"][name][0] for run in earlier if name in run["figures"]]
        usual = _number(median(before)) if before else ""
        lines.append(f"| {name} | {_number(value)} {unit} | {usual} | {_change(value, before)} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


def _change(value: float, before: Sequence[float]) -> str:
    if not before or not median(before):
        return ""
    share = value / median(before) - 1
    said = f"{share:+.0%}"
    return f"**{said}**" if abs(share) > _NOISE else said
