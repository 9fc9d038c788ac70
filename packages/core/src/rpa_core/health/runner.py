"""Running checks away from whoever asks: due ones are started, slow ones are counted as failed, results are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from rpa_core.clock import Clock
from rpa_core.health.model import Check, Finding, HealthStatus, Scope

NOT_YET = "not checked yet"


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Run `work` on a daemon thread: a check that hangs must not hold up the exit of the process."""
    threading.Thread(target=work, name=f"check-{name}", daemon=True).start()


@dataclass(slots=True)
class _Slot:
    check: Check
    result: HealthStatus | None = None
    finished_at: float | None = None  # monotonic, as the next two
    started_at: float | None = None  # None while no run is under way
    due_at: float = 0.0
    run: int = 0  # only the newest run may deliver
    bears: Callable[[], str | None] | None = None
    borne: str | None = None  # what `bears` said at the last tick, and when that was
    borne_at: float = 0.0


class CheckRunner:
    """Holds the checks and their newest results. Thread-safe; `tick` decides, `result_of` only reads."""

    def __init__(
        self,
        clock: Clock,
        *,
        ttl_s: float,
        rand: Callable[[], float],
        spawn: Callable[[str, Callable[[], None]], None] = start_thread,
    ) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._rand = rand
        self._spawn = spawn
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}

    def add(self, check: Check) -> None:
        """Watch `check`; one of the same name is replaced."""
        with self._lock:
            self._slots[check.name] = _Slot(check)

    def bear(self, name: str, by: Callable[[], str | None]) -> None:
        """While `by` says in words what bears it, a failure of this check is a warning; asked at each tick."""
        with self._lock:
            self._slots[name].bears = by

    def checks(self) -> list[Check]:
        """What is watched, in the order it was added."""
        with self._lock:
            return [slot.check for slot in self._slots.values()]

    def tick(self) -> float:
        """Start what is due; returns the seconds until something is due again.

        Intervals vary by 20 % either way, so that many containers started together do not ask together.
        """
        now = self._clock.monotonic()
        begin: list[tuple[_Slot, int]] = []
        for slot in list(self._slots.values()):
            if slot.bears is not None:
                slot.borne, slot.borne_at = slot.bears(), now
        with self._lock:
            for slot in self._slots.values():
                if slot.started_at is None and now >= slot.due_at:
                    slot.started_at = now
                    slot.due_at = now + self._ttl_s * (0.8 + 0.4 * self._rand())
                    slot.run += 1
                    begin.append((slot, slot.run))
        for slot, run in begin:
            self._spawn(slot.check.name, lambda slot=slot, run=run: self._run(slot, run))  # type: ignore[misc]  # mypy cannot infer a lambda's defaults
        with self._lock:
            waits = [self._wait_s(slot, now) for slot in self._slots.values()]
        return max(0.01, min(waits, default=self._ttl_s))

    def run_now(self, check: Check) -> HealthStatus:
        """Run one check on the caller's thread and keep the result; for callers that are not a probe."""
        slot = self._slots[check.name]
        with self._lock:
            slot.run += 1
            slot.started_at = self._clock.monotonic()
            run = slot.run
        self._run(slot, run)
        return self.result_of(check)

    def result_of(self, check: Check) -> HealthStatus:
        """The newest result; a failure where a run hangs or no run has been heard of for too long."""
        result = self._judged(check)
        slot = self._slots[check.name]
        fresh = self._clock.monotonic() - slot.borne_at <= 3 * self._ttl_s
        if result.status != "unhealthy" or slot.borne is None or not fresh:
            return result
        details = {**result.details, "up": False}
        return replace(result, status="degraded", message=f"{result.message}; {slot.borne}", details=details)

    def _judged(self, check: Check) -> HealthStatus:
        now = self._clock.monotonic()
        with self._lock:
            slot = self._slots[check.name]
            result, started_at, finished_at = slot.result, slot.started_at, slot.finished_at
        if started_at is not None and now - started_at > check.timeout_s:
            return self._failed(check, f"no answer within {check.timeout_s:g} s", now - started_at)
        if result is None or finished_at is None:
            return self._unknown(check)
        age_s = now - finished_at
        if age_s > 3 * self._ttl_s + check.timeout_s:
            return self._failed(check, f"the last check ended {age_s:.0f} s ago: checks are not being run", age_s)
        return result

    def _wait_s(self, slot: _Slot, now: float) -> float:
        if slot.started_at is None:
            return slot.due_at - now
        left_s = slot.started_at + slot.check.timeout_s - now
        return left_s if left_s > 0 else self._ttl_s

    def _run(self, slot: _Slot, run: int) -> None:
        started_at = self._clock.monotonic()
        try:
            finding = slot.check.run()
        except Exception as error:  # noqa: BLE001 - a check may fail in any way; every way is its result
            finding = Finding(status="unhealthy", message=_text(error), details={"error": type(error).__name__})
        now = self._clock.monotonic()
        details = dict(finding.details)
        if finding.observed is not None:
            details |= {"observed": finding.observed, "unit": finding.unit}
        status = finding.status
        if status == "unhealthy" and not slot.check.required:
            status = "degraded"
        result = HealthStatus(
            status=status,
            message=finding.message,
            details=details,
            timestamp=self._clock.utcnow(),
            check_duration=now - started_at,
        )
        with self._lock:
            if slot.run == run:
                slot.result, slot.finished_at, slot.started_at = result, now, None

    def _failed(self, check: Check, message: str, duration_s: float) -> HealthStatus:
        return HealthStatus(
            status="unhealthy" if check.required else "degraded",
            message=message,
            timestamp=self._clock.utcnow(),
            check_duration=duration_s,
        )

    def _unknown(self, check: Check) -> HealthStatus:
        """Before the first result nothing is ready, but nothing is dead either."""
        if check.scope is not Scope.LIVE:
            return self._failed(check, NOT_YET, 0.0)
        return HealthStatus(status="healthy", message=NOT_YET, timestamp=self._clock.utcnow())


def _text(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
