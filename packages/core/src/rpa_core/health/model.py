"""What health is made of: results, their scopes, and how they read on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

State = Literal["healthy", "degraded", "unhealthy"]

_ORDER: dict[State, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}
_WIRE: dict[State, str] = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}


class Scope(StrEnum):
    """Which probe a check belongs to."""

    LIVE = "live"
    READY = "ready"
    STARTUP = "startup"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthStatus:
    """One result. `check_duration` is in seconds; `timestamp` is timezone-aware."""

    status: State
    message: str
    timestamp: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
    check_duration: float = 0.0

    @property
    def wire(self) -> str:
        """`pass`, `warn` or `fail`, as health+json has it."""
        return _WIRE[self.status]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """What this process uses. CPU is in percent of one core since the last look; limits that do not exist are 0."""

    cpu_usage_percent: float
    memory_usage_mb: float
    memory_limit_mb: float
    disk_usage_mb: float
    network_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check's function returns. `observed` is what was seen, as a number with its `unit`."""

    status: State
    message: str
    observed: float | int | str | None = None
    unit: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something to look at in the background.

    name        `component:measurement`, such as `postgresql:connection`.
    run         looks, and returns a Finding; what it raises is a failure with the error's text.
    what        what is checked, for people; must hold no secret.
    advice      what to do when it fails.
    scope       which probe it counts for.
    timeout_s   a run that takes longer is a failure; it is not started again before it ends.
    dependency  True for anything outside this process; such a check cannot have scope `live`.
    required    False makes a failure a warning: 200, `warn`.
    kind        health+json's componentType: `datastore`, `component` or `system`.
    """

    name: str
    run: Callable[[], Finding]
    what: str
    advice: str
    scope: Scope = Scope.READY
    timeout_s: float = 2.0
    dependency: bool = True
    required: bool = True
    kind: str = "component"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of one scope, or of all: the worst of its parts."""

    status: State
    message: str
    checks: Mapping[str, tuple[Check | None, HealthStatus]]

    @property
    def wire(self) -> str:
        """`pass`, `warn` or `fail`."""
        return _WIRE[self.status]

    @property
    def http_status(self) -> int:
        """200 while there is service to give, 503 otherwise."""
        return 503 if self.status == "unhealthy" else 200


def worst(states: list[State]) -> State:
    """The worst of some states; healthy where there is none."""
    return max(states, key=_ORDER.__getitem__, default="healthy")


def as_json(report: Report, *, release: str, service: str, details: bool) -> dict[str, Any]:
    """The report as a health+json object (draft-inadarei-api-health-check-06); parts only with `details`."""
    body: dict[str, Any] = {
        "status": report.wire,
        "version": "1",
        "releaseId": release,
        "serviceId": service,
        "description": f"rpa {service}",
    }
    if details:
        body["output"] = "" if report.status == "healthy" else report.message
        body["checks"] = {name: [_entry(*pair)] for name, pair in report.checks.items()}
    return body


def _entry(check: Check | None, result: HealthStatus) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "componentType": check.kind if check else "component",
        "status": result.wire,
        "time": result.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "output": "" if result.status == "healthy" else result.message,
    }
    if "observed" in result.details:
        entry["observedValue"] = result.details["observed"]
        entry["observedUnit"] = result.details.get("unit", "")
    return entry
