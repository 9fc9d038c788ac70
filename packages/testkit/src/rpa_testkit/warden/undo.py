"""What the warden does to take a fault back: plain data, so that it needs nothing of the tester that died."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """SIGCONT to a process, if it is still the one that started at `started` (clock ticks, /proc/PID/stat field 22)."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Set a process's resource limit (the name in `resource`, such as RLIMIT_NOFILE) back."""

    pid: int
    started: int
    resource: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Run a command; its end is waited for `timeout_s` seconds."""

    argv: tuple[str, ...]
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """Run statements on a database, each in its own transaction."""

    dsn: str = field(repr=False)
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearEdge:
    """Take all rules off an edge of the proxy that listens for control at host:port."""

    host: str
    port: int
    edge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a file."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write a text into a file."""

    path: str
    text: str


Undo = Continue | Limit | Command | Sql | ClearEdge | Remove | Write
_KINDS = {kind.__name__: kind for kind in (Continue, Limit, Command, Sql, ClearEdge, Remove, Write)}


def to_json(undo: Undo) -> dict[str, Any]:
    """For the wire."""
    return {"do": type(undo).__name__, **asdict(undo)}


def from_json(given: dict[str, Any]) -> Undo:
    """The reverse; KeyError or TypeError for anything else."""
    fields = dict(given)
    make: Callable[..., Undo] = _KINDS[fields.pop("do")]
    return make(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
