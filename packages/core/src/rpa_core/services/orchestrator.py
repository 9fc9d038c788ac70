"""ServiceOrchestrator: what must be there before work starts, and what is known of it afterwards."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from rpa_core.clock import Clock, SystemClock
from rpa_core.config.models import ContainerConfig, DatabaseConfig, ServiceDependency
from rpa_core.errors import DependencyUnavailable, RpaError, StoreRefused, TransientError
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.services.database import probe_database
from rpa_core.services.diagnosis import Diagnosis, Probe
from rpa_core.services.endpoint import probe_service
from rpa_core.services.guarding import guarded
from rpa_core.services.waiting import Waited, Waiter

_log = logging.getLogger("rpa.services")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """One dependency as it was last seen. `since` is when it came into this state."""

    name: str
    required: bool
    up: bool
    message: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealthStatus:
    """All dependencies. Healthy: all up; degraded: an optional one is down; unhealthy: a required one is."""

    services: Mapping[str, ServiceState]

    @property
    def status(self) -> str:
        down = [state for state in self.services.values() if not state.up]
        return "unhealthy" if any(state.required for state in down) else "degraded" if down else "healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    name: str
    what: str
    required: bool
    probe: Probe
    attempts: int = 0
    bear_s: float = 0.0
    breaker: CircuitBreaker | None = None


class ServiceOrchestrator:
    """Waits for dependencies and keeps what is known of each; safe to call from several threads.

    `on_state(name, up)` is told of every look, for a metric. Databases are named `database:<name>` and always
    required, services by their own name.

    `breaker_of(name)` gives the breaker of a dependency, under those names: then no attempt comes on top of those that
    others in the process make. For `bear_s` seconds a database's refusal is waited out like an outage: its new password
    may be on its way to a process that had the old one.
    """

    def __init__(
        self,
        config: ContainerConfig,
        *,
        stop: threading.Event | None = None,
        clock: Clock | None = None,
        rand: random.Random | None = None,
        on_state: Callable[[str, bool], None] | None = None,
        breaker_of: Callable[[str], CircuitBreaker | None] = lambda _: None,
        bear_s: float = 0.0,
        probe_database: Callable[[str, DatabaseConfig], Diagnosis | None] = probe_database,
        probe_service: Callable[[ServiceDependency], Diagnosis | None] = probe_service,
    ) -> None:
        self._clock = clock or SystemClock()
        self._waiter = Waiter(stop=stop, clock=self._clock, rand=rand)
        self._on_state = on_state
        self._lock = threading.Lock()
        self._states: dict[str, ServiceState] = {}
        self._targets: dict[str, _Target] = {}
        for name, database in config.database_connections.items():
            key, what = f"database:{name}", f"database {name}"
            self._targets[key] = _Target(
                name=key,
                what=what,
                required=True,
                probe=partial(probe_database, name, database),
                bear_s=bear_s,
                breaker=breaker_of(key),
            )
        for service in config.service_dependencies:
            self._targets[service.service_name] = _Target(
                name=service.service_name,
                what=f"service {service.service_name}",
                required=service.required,
                probe=partial(probe_service, service),
                attempts=service.retry_attempts,
                breaker=breaker_of(service.service_name),
            )

    def wait_for_database(self, timeout: float) -> bool:
        """Wait for every database. False when one is still away after `timeout` seconds or at a stop.

        Raises `StoreRefused` at once where waiting cannot help (wrong password, no such database, ...).
        """
        return self._wait_for([each for each in self._targets.values() if each.name.startswith("database:")], timeout)

    def wait_for_prefect_server(self, timeout: float) -> bool:
        """Wait for the service named `prefect`. True when none is configured: nobody is told then."""
        prefect = self._targets.get("prefect")
        return prefect is None or self._wait_for([prefect], timeout)

    def wait_for_dependencies(self, timeout: float) -> bool:
        """Wait for everything required within one deadline; optional ones are looked at once and never block."""
        required = [each for each in self._targets.values() if each.required]
        ready = self._wait_for(required, timeout)
        if ready:
            for each in self._targets.values():
                if not each.required:
                    self._look(each)
        return ready

    def require_dependencies(self, timeout: float) -> None:
        """As above, but raises `DependencyUnavailable` (exit 69) naming what is away, what was seen, what to do."""
        if not self.wait_for_dependencies(timeout):
            away = [state for state in self.states().values() if state.required and not state.up]
            text = "; ".join(f"{state.name}: {state.message}" for state in away) or "told to stop while waiting"
            raise DependencyUnavailable(f"not available within {timeout:g} s: {text}")

    def validate_service_health(self) -> ServiceHealthStatus:
        """Look at every dependency once, now."""
        for target in self._targets.values():
            self._look(target)
        return ServiceHealthStatus(services=self.states())

    def handle_service_failure(self, service: str, error: Exception) -> None:
        """Take note that using `service` failed: logs what, what was seen, since when and what to do.

        Its breaker counts what says that it is away. The next good look, or `handle_service_recovery`, clears it;
        nothing has to be restarted.
        """
        target = self._target(service)
        if target is not None and target.breaker is not None and isinstance(error, TransientError | OSError):
            target.breaker.failed()
        advice = "it is tried again by itself" if getattr(error, "retryable", True) else "this needs a correction"
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        self._note(target.name if target else service, f"{type(error).__name__}: {first}; {advice}")

    def handle_service_recovery(self, service: str) -> None:
        """Take note that `service` was used with success."""
        target = self._target(service)
        if target is not None and target.breaker is not None:
            target.breaker.succeeded()
        self._note(target.name if target else service, None)

    def states(self) -> dict[str, ServiceState]:
        """What is known of each dependency that was looked at."""
        with self._lock:
            return dict(self._states)

    def _wait_for(self, targets: list[_Target], timeout: float) -> bool:
        deadline = self._clock.monotonic() + timeout
        for target, waited in self._waits(targets, deadline):
            self._note(target.name, None if waited.answered else _text(waited.last))
            if waited.answered:
                continue
            if waited.last is not None and waited.last.final:
                raise self._refusal(target, waited.last)
            return False
        return True

    def _waits(self, targets: list[_Target], deadline: float) -> Iterator[tuple[_Target, Waited]]:
        for target in targets:
            left = max(0.0, deadline - self._clock.monotonic())
            yield (
                target,
                self._waiter.wait(
                    target.what,
                    target.probe,
                    left,
                    max_attempts=target.attempts,
                    breaker=target.breaker,
                    bear_s=target.bear_s,
                ),
            )

    @staticmethod
    def _refusal(target: _Target, found: Diagnosis) -> RpaError:
        kind = StoreRefused if target.name.startswith("database:") else DependencyUnavailable
        return kind(f"{target.what}: {found.text}")

    def _target(self, service: str) -> _Target | None:
        return self._targets.get(service) or self._targets.get(f"database:{service}")

    def _look(self, target: _Target) -> None:
        found = (target.probe if target.breaker is None else guarded(target.probe, target.breaker))()
        self._note(target.name, None if found is None else found.text)

    def _note(self, name: str, trouble: str | None) -> None:
        target, now = self._targets.get(name), self._clock.utcnow()
        required = target.required if target else False
        with self._lock:
            before = self._states.get(name)
            changed = before is None or before.up != (trouble is None)
            since = now if changed or before is None else before.since
            self._states[name] = ServiceState(
                name=name, required=required, up=trouble is None, message=trouble or "answers", since=since
            )
        what = target.what if target else f"service {name}"
        extra = {"rpa.dependency": name, "rpa.since": since.isoformat(timespec="seconds")}
        if trouble is not None:
            level = logging.ERROR if required else logging.WARNING
            text = "%s is away since %s: %s"
            extra["event.action"] = "dependency.failed"
            _log.log(level, text, what, extra["rpa.since"], trouble, extra=extra)
        elif before is not None and changed:
            extra["event.action"] = "dependency.recovered"
            gone_s = (now - before.since).total_seconds()
            _log.info("%s is back after %.1f s", what, gone_s, extra=extra)
        if self._on_state is not None:
            self._on_state(name, trouble is None)


def _text(found: Diagnosis | None) -> str:
    return found.text if found is not None else "no answer"


def wait_for_dependencies(
    config: ContainerConfig,
    timeout_s: float,
    *,
    stop: threading.Event | None = None,
    on_state: Callable[[str, bool], None] | None = None,
) -> bool:
    """Wait for everything required; what `ContainerConfigManager.wait_for_dependencies` calls.

    False at the deadline or when `stop` is set. Raises `StoreRefused` or `DependencyUnavailable` at once where
    waiting cannot help.
    """
    return ServiceOrchestrator(config, stop=stop, on_state=on_state).wait_for_dependencies(timeout_s)
