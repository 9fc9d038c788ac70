"""Carrying out what `ErrorRecoveryManager` decides, and what a worker's session asks about its database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from rpa_core.errors import OutageTooLong, RpaError, SchemaError, StoreDenied, StoreRefused
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.recovery import Recovery
from rpa_core.resilience.breaker import BreakerState, CircuitBreaker
from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryAction, Remedy
from rpa_core.store.database import Database
from rpa_core.waits import pause

logger = logging.getLogger("rpa.recovery")
_TURN_S = 5.0  # the longest wait for a breaker before its session says again what it waits for
_QUIET = (Remedy.RETRY, Remedy.RECONNECT)
OnAction = Callable[[str, RecoveryAction], object]


def recovery_events(metrics: Metrics) -> OnAction:
    """What the manager's `on_action` gets: `rpa_recovery_actions_total`, and a log line for each."""

    def tell(service: str, action: RecoveryAction) -> None:
        metrics.recovery_actions.labels(service=service, remedy=str(action.remedy)).inc()
        level = logging.CRITICAL if action.remedy is Remedy.EXIT else logging.WARNING
        logger.log(
            logging.DEBUG if action.remedy in _QUIET else level,
            "%s: %s, because of: %s",
            service,
            action.remedy,
            action.reason,
            extra={"event.action": "recovery.decided", "rpa.dependency": service, "rpa.remedy": str(action.remedy)},
        )

    return tell


class Remedies:
    """One per container. None of the callables may raise; each is called on the thread that met the error.

    new_pools       replaces the connections of all pools to this service.
    reload_secrets  looks now whether mounted files have changed.
    alert           tells somebody: (service, action).
    calm            the service that an alert was about has recovered.
    """

    def __init__(
        self,
        manager: ErrorRecoveryManager,
        *,
        new_pools: Callable[[str], object],
        reload_secrets: Callable[[], object],
        alert: Callable[[str, RecoveryAction], object],
        calm: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._manager = manager
        self._new_pools = new_pools
        self._reload_secrets = reload_secrets
        self._alert = alert
        self._calm = calm
        self._guard = threading.Lock()
        self._alerted: set[str] = set()

    def carry_out(self, service: str, action: RecoveryAction) -> None:
        """Do it. RETRY, RECONNECT and PAUSE are the caller's own: it tries again after `action.delay_s`."""
        match action.remedy:
            case Remedy.NEW_POOL:
                self._new_pools(service)
            case Remedy.RELOAD_SECRETS:
                self._reload_secrets()
            case Remedy.ALERT | Remedy.EXIT:
                with self._guard:
                    self._alerted.add(service)
                self._alert(service, action)
            case Remedy.RETRY | Remedy.RECONNECT | Remedy.PAUSE:
                pass

    def recovered(self, service: str) -> None:
        """It works; an alert about it is over."""
        self._manager.recovered(service)
        with self._guard:
            alerted = service in self._alerted
            self._alerted.discard(service)
        if alerted:
            self._calm(service)

    def observe(self, database: Database) -> None:
        """Climb the ladder for a database that no session of a worker looks after: a flow's own.

        Its attempts are what is seen of it. It never ends the process: its flow gives records back meanwhile.
        """
        database.on_attempt = self._attempted

    def _attempted(self, service: str, error: RpaError | None) -> None:
        if error is None:
            self.recovered(service)
            return
        if isinstance(error, StoreRefused) and not isinstance(error, StoreDenied):
            return  # at the start; whoever asked ends with it
        action = self._manager.handle_service_error(service, error)
        if action.remedy is Remedy.EXIT:
            action = replace(action, remedy=Remedy.ALERT, exit_code=0)
        self.carry_out(service, action)

    def session(
        self, service: str, breaker: CircuitBreaker, *, on_pause: Callable[[], object] = lambda: None
    ) -> Recovery:
        """What a worker's session asks about the database `service`; `on_pause`: it is told to keep still."""
        return _SessionRecovery(self, self._manager, service, breaker, on_pause)


class _SessionRecovery:
    """`Recovery`, by the ladder and the breaker."""

    def __init__(
        self,
        remedies: Remedies,
        manager: ErrorRecoveryManager,
        service: str,
        breaker: CircuitBreaker,
        on_pause: Callable[[], object],
    ) -> None:
        self._remedies = remedies
        self._manager = manager
        self._service = service
        self._breaker = breaker
        self._on_pause = on_pause

    def failed(self, error: RpaError) -> float:
        lasted_s = self._manager.trouble_s(self._service)
        action = self._manager.handle_service_error(self._service, error)
        self._remedies.carry_out(self._service, action)
        if action.remedy is Remedy.EXIT:
            raise _last_word(error, self._service, lasted_s) from error
        if action.remedy is Remedy.PAUSE:
            self._on_pause()
        if self._breaker.state is BreakerState.CLOSED:
            return action.delay_s
        return self._breaker.retry_after_s() or action.delay_s

    def wait(self, seconds: float, stop: threading.Event) -> None:
        if self._breaker.state is BreakerState.CLOSED:
            pause(stop, seconds)
        else:
            self._breaker.wait_turn(_TURN_S, stop)

    def recovered(self) -> None:
        self._remedies.recovered(self._service)


def _last_word(error: RpaError, service: str, lasted_s: float) -> RpaError:
    """The error that ends the worker: none that somebody waits out."""
    if isinstance(error, StoreDenied):
        return StoreRefused(f"database {service} has refused us for {lasted_s:.0f} s: {error}")
    if isinstance(error, StoreRefused | SchemaError) or not error.retryable:
        return error
    return OutageTooLong(f"database {service} has been away for {lasted_s:.0f} s: {error}")
