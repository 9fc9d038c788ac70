"""An alert, and what sinks are told about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

Severity = Literal["warning", "critical"]
State = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What is wrong. Name, severity, reason and labels make it one and the same alert when it is raised again.

    `summary` says what is wrong in a line, `description` what to do. `lasts_s`: it ends by itself so long after it was
    last raised; None: when it is resolved.
    """

    name: str
    severity: Severity
    reason: str
    summary: str
    description: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who raises alerts; `instance` must be the same after a restart, or nobody could resolve them."""

    service: str
    instance: str
    environment: str = ""
    runbook_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message: the alert with these labels is firing, or has ended. Times are Unix time in seconds.

    `remembered`: whether the folder of open alerts knew of it when it was raised.
    """

    fingerprint: str
    state: State
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at: float
    at: float
    remembered: bool = True

    @property
    def id(self) -> str:
        """The same for the same message, however often it is sent."""
        return f"{self.fingerprint}:{self.started_at:.3f}:{self.state}"

    def ended(self, at: float) -> Notice:
        """The message that it is over; never before it began."""
        return replace(self, state="resolved", at=max(at, self.started_at + 0.001))

    def dumps(self) -> bytes:
        """As bytes for the spool."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def loads(cls, body: bytes) -> Notice:
        """From bytes; raises ValueError for anything that `dumps` did not write."""
        fields: Any = json.loads(body)
        try:
            notice = cls(**fields)
            texts = {**notice.labels, **notice.annotations}
            sound = notice.fingerprint == fingerprint(notice.labels) and notice.state in ("firing", "resolved")
            sound = sound and all(isinstance(text, str) for text in texts.values())
            sound = sound and isinstance(notice.started_at + notice.at, float)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a notice: {error}") from error
        if not sound:
            raise ValueError("not a notice: its parts do not fit")
        return notice


def firing(alert: Alert, origin: Origin, *, at: float, started_at: float, hide: Callable[[str], str]) -> Notice:
    """The message that `alert` is firing; `hide` takes secrets out of every text."""
    given = {
        **dict(alert.labels),
        "alertname": alert.name,
        "severity": alert.severity,
        "reason": alert.reason,
        "service": origin.service,
        "instance": origin.instance,
        "environment": origin.environment,
    }
    labels = {name: hide(text) for name, text in given.items() if text}  # Alertmanager drops empty ones
    runbook = f"{origin.runbook_url.rstrip('/')}/{alert.name}" if origin.runbook_url else ""
    notes = {"summary": alert.summary, "description": alert.description, "runbook_url": runbook}
    annotations = {name: hide(text) for name, text in notes.items() if text}
    return Notice(
        fingerprint=fingerprint(labels),
        state="firing",
        labels=labels,
        annotations=annotations,
        started_at=started_at,
        at=at,
    )


def fingerprint(labels: Mapping[str, str]) -> str:
    """Equal labels, equal fingerprint; 32 hex digits."""
    return hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest()[:32]


def rfc3339(at: float) -> str:
    """Unix time as `2026-01-01T00:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
