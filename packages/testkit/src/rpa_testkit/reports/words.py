"""Figures as people write them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.reports.model import Report

STATUS = {Status.PASS: "passed", Status.FAIL: "failed", Status.UNKNOWN: "unknown"}
STATUS_OF = {status.value: word for status, word in STATUS.items()}
_MINUTE_S = 60.0
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))


def seconds(value: float | None) -> str:
    """`12 ms`, `3.4 s`, `4 min 12 s`; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    if value >= 2 * _MINUTE_S:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if value >= 0.9995:
        return f"{short(value)} s"
    return f"{short(value * 1000)} ms" if value > 0 else "0 s"


def short(value: float) -> str:
    """Three digits at most before it grows: `0.042`, `3.14`, `31.4`, `314`, `3,140`."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(size)))}f}" if size < 10 else f"{value:.1f}".removesuffix(".0")


def size(value: float | None) -> str:
    """`84 MB`, `1.2 GB`."""
    if value is None:
        return "\N{EN DASH}"
    for unit, name in _UNITS:
        if value >= unit:
            return f"{short(value / unit)} {name}"
    return f"{value:.0f} B"


def count(number: int, one: str, many: str | None = None) -> str:
    """`no fault`, `1 fault`, `1,200 faults`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}" if number else f"no {many or one + 's'}"


def tally(names: Iterable[str]) -> str:
    """`3 pause, 2 crash`, the most frequent first."""
    return ", ".join(f"{number} {name}" for name, number in Counter(names).most_common())


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = list(items) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def plain(value: Any) -> str:
    """A value of the history or a header, in one line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(inner, str) for inner in value):
        return ", ".join(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def shortened(text: str, length: int = 300) -> str:
    """At most `length` characters, the end cut off and marked."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def sentence(report: Report) -> str:
    """What ran and how it ended, in one sentence or two."""
    counts, ran = report.counts, report.ran
    where = f"on the {report.header.driver} driver with seed {report.header.seed}"
    kinds = len({fault.kind for fault in ran})
    faults = f"{count(len(ran), 'fault')} of {count(kinds, 'kind')}" if ran else "no fault"
    records = max(counts.found, counts.acknowledged)
    text = f"{count(records, 'record').capitalize()} under {faults} in {seconds(report.duration_s)}, {where}: "
    lost, twice = ("none" if number == 0 else f"{number:,}" for number in (counts.lost or 0, counts.twice or 0))
    if counts.lost is None or counts.twice is None:
        return f"{text}whether any is lost or there twice cannot be told."
    unfinished = f", {counts.unfinished:,} unfinished" if counts.unfinished else ""
    return f"{text}{lost} lost, {twice} twice{unfinished}."
