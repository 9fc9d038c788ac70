"""The lives of workers, from what they wrote: each begins with a line that names its incarnation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

_STARTED = re.compile(r" started as (\S+),")
_LEVELS = {"info", "warning", "error", "critical"}
_UNTOLD = ("httpx", "httpcore", "rpa.prefect", "rpa.spool", "prefect")  # who carries reports is not reported on


@dataclass(slots=True, kw_only=True)
class Life:
    """From `worker.started` on. `lines` are the messages of it that are reported, the first and the last included."""

    incarnation: str
    node: str
    pid: int
    drained: bool = False
    lines: list[str] = field(default_factory=list)


def lives_of(node: str, log: str) -> list[Life]:
    """In order; what is no JSON line is passed over."""
    lives: list[Life] = []
    for line in _lines(log):
        message, action = str(line.get("message", "")), line.get("event.action")
        if action == "worker.started" and (found := _STARTED.search(message)):
            lives.append(Life(incarnation=found[1], node=node, pid=int(line.get("process.pid", 0))))
        if not lives or lives[-1].drained or line.get("process.pid", 0) != lives[-1].pid or not _told(line):
            continue
        lives[-1].lines.append(message)
        lives[-1].drained = action == "worker.stopped"
    return lives


def _lines(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        try:
            told = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(told, dict):
            yield told


def _told(line: dict[str, Any]) -> bool:
    logger = str(line.get("log.logger", ""))
    return line.get("log.level") in _LEVELS and not any(
        logger == name or logger.startswith(f"{name}.") for name in _UNTOLD
    )
