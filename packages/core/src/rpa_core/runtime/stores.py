"""The databases of one life, and what is done when one of them is in trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rpa_core.checkpoints import Checkpoints
from rpa_core.config.models import ContainerConfig
from rpa_core.errors import DependencyUnavailable, StoreRefused
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.recovery import Recovery
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryAction, RecoveryPolicy
from rpa_core.runtime.databases import breaker_events, open_databases
from rpa_core.runtime.remedies import Remedies, recovery_events
from rpa_core.services.guarding import SERVICE_POLICY
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.store.ledger import Ledger

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

MAIN = "rpa_db"
InTrouble = Callable[[str, str, bool], object]


class Stores:
    """Connections by name, all past the breaker of their database.

    `reloaded`: an earlier life of this process was let in, so that a refusal is borne from the start; `proven` names
    the services of which that is known.
    """

    def __init__(
        self,
        config: ContainerConfig,
        *,
        owner: str,
        metrics: Metrics,
        checkpoints: Checkpoints,
        reloaded: bool,
        proven: frozenset[str],
    ) -> None:
        self._config = config
        self._owner = owner
        self._metrics = metrics
        self._checkpoints = checkpoints
        self._bear_s = config.recovery.refused_after_s if reloaded else 0.0
        on_change = breaker_events(metrics)
        self.databases = open_databases(config, on_change=on_change, let_in=reloaded)
        self.recovery = ErrorRecoveryManager(
            RecoveryPolicy.of(
                exit_after_s=config.recovery.exit_after_s, refused_after_s=config.recovery.refused_after_s
            ),
            on_action=recovery_events(metrics),
            on_change=on_change,
            proven=proven,
        )

    @property
    def dsns(self) -> dict[str, str]:
        """The connection strings by name; these are secrets."""
        return {name: database.dsn for name, database in self.databases.items()}

    def watch_lines(self, stack: ExitStack) -> None:
        """Cut connections that will never get an answer, until the stack is closed."""
        for database in self.databases.values():
            watch = database.line_watch()
            watch.start()
            stack.callback(watch.stop)

    def health_pool(self, name: str, stack: ExitStack) -> ConnectionPool[psycopg.Connection[Any]]:
        """One connection for the health check alone: uploads must not take what readiness asks over."""
        pool = self.databases[name].pool(max_size=1, application_name=f"rpa {self._config.flow_name} health")
        stack.callback(pool.close, timeout=1.0)
        return pool

    def open_ledger(self) -> Ledger:
        """A connection of its own to the ledger. Raises StoreUnavailable, StoreRefused or StoreDenied."""
        return Ledger.over(
            self.databases[MAIN],
            flow=self._config.flow_name,
            owner=self._owner,
            ttl_s=self._config.worker.lease_ttl_s,
            checkpoints=self._checkpoints,
        )

    def service_breaker(self, name: str) -> CircuitBreaker:
        """The breaker of a service that is probed."""
        return self.recovery.implement_circuit_breaker(name, SERVICE_POLICY)

    def adopt(self, dsns: Mapping[str, str]) -> None:
        """Take new passwords besides the old ones: what is finished is still to be committed."""
        for name, dsn in dsns.items():
            if name in self.databases:
                self.databases[name].adopt(dsn)

    def wait(self, stop: threading.Event) -> bool:
        """Wait for every required dependency; False if told to stop. Raises DependencyUnavailable or StoreRefused."""

        def on_state(name: str, up: bool) -> None:
            # Under the name that the health monitor goes on with.
            self._metrics.dependency_up.labels(dependency=name.removeprefix("database:")).set(up)

        orchestrator = ServiceOrchestrator(
            self._config, stop=stop, on_state=on_state, breaker_of=self._breaker, bear_s=self._bear_s
        )
        try:
            orchestrator.require_dependencies(self._config.dependency_timeout_s)
        except DependencyUnavailable:
            if not stop.is_set():
                raise
        return not stop.is_set()

    def recovery_of_ledger(
        self,
        *,
        reload_secrets: Callable[[], object],
        in_trouble: InTrouble,
        is_back: Callable[[str], object],
        on_pause: Callable[[], object],
    ) -> Recovery:
        """What the worker's session asks when the ledger fails it; a flow's own databases are known by their attempts.

        `in_trouble` gets name, reason, and whether the database refuses us rather than being away.
        """

        def alert(name: str, action: RecoveryAction) -> None:
            in_trouble(name, action.reason, isinstance(self.databases[name].trouble, StoreRefused))

        remedies = Remedies(
            self.recovery,
            new_pools=lambda name: self.databases[name].renew_pools(),
            reload_secrets=reload_secrets,
            alert=alert,
            calm=is_back,
        )
        for name, database in self.databases.items():
            if name != MAIN:
                remedies.observe(database)
        return remedies.session(MAIN, self.databases[MAIN].breaker, on_pause=on_pause)

    def _breaker(self, dependency: str) -> CircuitBreaker:
        """Of a database (`database:<name>`) or a service."""
        kind, _, name = dependency.partition(":")
        return self.databases[name].breaker if kind == "database" and name else self.service_breaker(dependency)
