"""HealthMonitor: what is known about this container, kept up to date in the background and read by the probes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import UsageError
from rpa_core.health.model import Check, HealthStatus, Report, ResourceStatus, Scope, worst
from rpa_core.health.resources import ResourceReader
from rpa_core.health.runner import CheckRunner, start_thread
from rpa_core.health.transitions import Transitions
from rpa_core.waits import pause

if TYPE_CHECKING:
    from rpa_core.observability.metrics import Metrics

LOOP = "application:main_loop"
LIFECYCLE = "application:lifecycle"
_TICK_S = 0.5  # how soon a hang is noticed in the log; probes see it at once


class HealthMonitor:
    """Checks, heartbeat and life cycle of one container. Every method may be called from any thread.

    `heartbeat_max_age_s`  age of the main loop's heartbeat at which liveness fails.
    `ttl_s`                how long a check's result is good for; refreshed in the background, jittered.
    `metrics`              gets `rpa_dependency_up` of every dependency check.
    """

    def __init__(
        self,
        *,
        heartbeat_max_age_s: float = 60.0,
        ttl_s: float = 3.0,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        rand: Callable[[], float] = random.random,
        spawn: Callable[[str, Callable[[], None]], None] = start_thread,
        resources: ResourceReader | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._heartbeat_max_age_s = heartbeat_max_age_s
        self._metrics = metrics
        self._runner = CheckRunner(self._clock, ttl_s=ttl_s, rand=rand, spawn=spawn)
        self._resources = resources or ResourceReader(self._clock)
        self._transitions = Transitions(self._clock)
        self._beat_at = self._clock.monotonic()
        self._beat_by = "start"
        self._started = False
        self._draining = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closers: list[Callable[[], object]] = []

    # --- what the runtime tells

    def at_stop(self, close: Callable[[], object]) -> None:
        """Call `close` when the monitor is stopped; for what its checks opened."""
        self._closers.append(close)

    def register(self, check: Check) -> None:
        """Watch `check`. Raises UsageError for a dependency with scope `live`."""
        if check.scope is Scope.LIVE and check.dependency:
            raise UsageError(
                f"check {check.name!r} looks at a dependency and must not decide liveness: restarting this container "
                "does not cure what is outside it. Use scope `ready`, or `startup`"
            )
        self._runner.add(check)

    def bear(self, name: str, by: Callable[[], str | None]) -> None:
        """Let a failure of the check `name` be a warning while `by` says in words what bears it. Ready all the same."""
        self._runner.bear(name, by)

    def start(self) -> None:
        """Begin checking in the background; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="health-monitor", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop checking; results grow old and then count as failures."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        while self._closers:
            self._closers.pop()()

    def heartbeat(self, by: str = "main loop") -> None:
        """Vouch that the main loop is alive; called by it, or by the lease keeper while a handler is busy."""
        self._beat_by = by
        self._beat_at = self._clock.monotonic()

    def set_started(self) -> None:
        """Start-up is over: from now on the heartbeat decides liveness."""
        self.heartbeat("start")
        self._started = True

    def set_draining(self) -> None:
        """Stop being ready, at once and for good."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether this container takes no new work."""
        return self._draining

    # --- what is known (seed names)

    def check_database_health(self) -> HealthStatus:
        """The worst of the database checks. Looks now where nothing runs in the background; never a probe's path."""
        return self._of_kind("datastore", "no database is being checked")

    def check_application_health(self) -> HealthStatus:
        """The main loop and the life cycle of this container."""
        parts = [self._loop_status(), self._lifecycle_status()]
        status = worst([part.status for part in parts])
        return HealthStatus(
            status=status,
            message="; ".join(part.message for part in parts),
            details={"started": self._started, "draining": self._draining, **parts[0].details},
            timestamp=self._clock.utcnow(),
        )

    def check_resource_usage(self) -> ResourceStatus:
        """What this process uses, and may use."""
        return self._resources.read()

    def export_health_metrics(self) -> dict[str, Any]:
        """Everything above as plain values, for a JSON output."""
        usage = self.check_resource_usage()
        return {
            "status": self.report().status,
            "live": self.report(Scope.LIVE).status != "unhealthy",
            "ready": self.report(Scope.READY).status != "unhealthy",
            "started": self._started,
            "draining": self._draining,
            "heartbeat_age_s": round(self.heartbeat_age_s(), 3),
            "checks": {
                check.name: {"status": result.status, "message": result.message, "duration_s": result.check_duration}
                for check in self._runner.checks()
                for result in (self._runner.result_of(check),)
            },
            "resources": {name: getattr(usage, name) for name in ResourceStatus.__slots__},
        }

    def heartbeat_age_s(self) -> float:
        """Seconds since somebody last vouched for the main loop."""
        return max(0.0, self._clock.monotonic() - self._beat_at)

    def report(self, scope: Scope | None = None) -> Report:
        """What a probe is told, or everything; only reads."""
        parts: dict[str, tuple[Check | None, HealthStatus]] = {}
        if scope in (None, Scope.LIVE):
            parts[LOOP] = (None, self._loop_status())
        if scope is not Scope.LIVE:
            parts[LIFECYCLE] = (None, self._lifecycle_status(scope))
        for check in self._runner.checks():
            if scope is None or check.scope is scope:
                parts[check.name] = (check, self._runner.result_of(check))
        bad = [f"{name}: {result.message}" for name, (_, result) in parts.items() if result.status != "healthy"]
        status = worst([result.status for _, result in parts.values()])
        return Report(status=status, message="; ".join(bad) or "all is well", checks=parts)

    # --- the background

    def tick(self) -> float:
        """Start due checks and log what has changed; returns the seconds until the next look."""
        wait_s = self._runner.tick()
        for check in self._runner.checks():
            result = self._runner.result_of(check)
            self._transitions.observe(check.name, check.what, result, check.advice)
            if self._metrics is not None and check.dependency:
                down = result.status == "unhealthy" or (not check.required and result.status == "degraded")
                down = down or result.details.get("up") is False
                self._metrics.dependency_up.labels(dependency=check.name.partition(":")[0]).set(0 if down else 1)
        self._transitions.observe(
            LOOP,
            f"the age of the main loop's heartbeat (at most {self._heartbeat_max_age_s:g} s)",
            self._loop_status(),
            "look for a handler that never returns (the thread dump in the log, or py-spy); liveness now fails, "
            "so the orchestrator restarts this container and its leases run out",
        )
        return wait_s

    def _loop(self) -> None:
        while not pause(self._stop, min(self.tick(), _TICK_S)):
            pass

    def _of_kind(self, kind: str, none: str) -> HealthStatus:
        checks = [check for check in self._runner.checks() if check.kind == kind]
        look = self._runner.result_of if self._thread is not None else self._runner.run_now
        results = {check.name: look(check) for check in checks}
        messages = [f"{name}: {result.message}" for name, result in results.items()]
        return HealthStatus(
            status=worst([result.status for result in results.values()]),
            message="; ".join(messages) or none,
            details={name: dict(result.details) for name, result in results.items()},
            timestamp=self._clock.utcnow(),
            check_duration=sum(result.check_duration for result in results.values()),
        )

    def _loop_status(self) -> HealthStatus:
        age_s = self.heartbeat_age_s()
        details = {"observed": round(age_s, 3), "unit": "s", "by": self._beat_by}
        if not self._started:
            return self._status("healthy", "starting; the heartbeat is not judged yet", details)
        if age_s <= self._heartbeat_max_age_s:
            return self._status("healthy", f"last heartbeat {age_s:.1f} s ago by the {self._beat_by}", details)
        return self._status(
            "unhealthy",
            f"the main loop hangs: last heartbeat {age_s:.1f} s ago by the {self._beat_by}, "
            f"at most {self._heartbeat_max_age_s:g} s allowed",
            details,
        )

    def _lifecycle_status(self, scope: Scope | None = None) -> HealthStatus:
        if not self._started:
            return self._status("unhealthy", "starting: waiting for dependencies")
        if self._draining and scope is not Scope.STARTUP:
            return self._status("unhealthy", "draining: finishing work, taking none")
        return self._status("healthy", "running")

    def _status(self, status: Any, message: str, details: dict[str, Any] | None = None) -> HealthStatus:
        return HealthStatus(status=status, message=message, details=details or {}, timestamp=self._clock.utcnow())
