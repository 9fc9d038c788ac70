"""One log line per change of a check: what was checked, what was seen, since when, what to do (R2.4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from rpa_core.clock import Clock
from rpa_core.health.model import HealthStatus, State
from rpa_core.health.runner import NOT_YET

_LOG = logging.getLogger("rpa.health")
_LEVELS: dict[State, int] = {"healthy": logging.INFO, "degraded": logging.WARNING, "unhealthy": logging.ERROR}
_REMIND_S = 300.0  # a failure that lasts is said again, so that a reader of recent logs learns of it


@dataclass(slots=True)
class _Known:
    status: State
    since: datetime
    since_mono: float
    said_at: float


class Transitions:
    """Remembers the last state of each check and logs when it changes; used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def observe(self, name: str, what: str, result: HealthStatus, advice: str) -> None:
        """Log `result` if it differs from what was known; a first result only if it is bad."""
        if result.message == NOT_YET:
            return
        now = self._clock.monotonic()
        known = self._known.get(name)
        if known is not None and known.status == result.status:
            if result.status != "healthy" and now - known.said_at >= _REMIND_S:
                known.said_at = now
                self._say("health.still_failing", name, what, result, known, advice)
            return
        self._known[name] = new = _Known(result.status, self._clock.utcnow(), now, now)
        if result.status != "healthy":
            self._say(
                "health.failed" if result.status == "unhealthy" else "health.degraded", name, what, result, new, advice
            )
        elif known is not None:
            _LOG.info(
                "%s recovered after %.0f s: checked %s; saw: %s",
                name,
                now - known.since_mono,
                what,
                result.message,
                extra={
                    "event.action": "health.recovered",
                    "event.outcome": "success",
                    "check.name": name,
                    "check.failed_for_s": round(now - known.since_mono, 3),
                },
            )

    def _say(self, action: str, name: str, what: str, result: HealthStatus, known: _Known, advice: str) -> None:
        since = known.since.isoformat(timespec="seconds")
        _LOG.log(
            _LEVELS[result.status],
            "%s is %s: checked %s; saw: %s; since %s; to do: %s",
            name,
            result.status,
            what,
            result.message,
            since,
            advice,
            extra={
                "event.action": action,
                "event.outcome": "failure",
                "check.name": name,
                "check.what": what,
                "check.seen": result.message,
                "check.since": since,
                "check.advice": advice,
            },
        )
