"""One life of a container: everything one worker needs, wired, run and ended in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rpa_core.checkpoints import Checkpoints
from rpa_core.clock import SystemClock
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.problems import lines
from rpa_core.errors import ConfigError, DependencyUnavailable, StoreRefused
from rpa_core.observability.logs import Logging
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.flow import Flow, FlowContext, OpenContext
from rpa_core.processing.worker import Worker
from rpa_core.resilience.alerts import catalogue
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryAction, RecoveryPolicy
from rpa_core.runtime import drain, schema, selfcheck, surface
from rpa_core.runtime.databases import breaker_events, open_databases
from rpa_core.runtime.gates import Gates
from rpa_core.runtime.held import open_held
from rpa_core.runtime.monitoring import build_monitor
from rpa_core.runtime.policies import worker_policy
from rpa_core.runtime.reload import ConfigWatch
from rpa_core.runtime.remedies import Remedies, recovery_events
from rpa_core.runtime.telemetry import Telemetry
from rpa_core.runtime.upkeep import Upkeep, label_of
from rpa_core.runtime.watcher import Keeping, Watcher
from rpa_core.services.guarding import SERVICE_POLICY
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.store.ledger import Ledger
from rpa_core.store.lookup import FlowDepth
from rpa_core.version import VERSION

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

logger = logging.getLogger("rpa.runtime")
_YOUNG_OBJECTS = 20_000  # more than a claim of records holds at once: without cycles, nothing is ever walked


class End(StrEnum):
    """How a life ends that does not end in an error."""

    DRAINED = "drained"
    RELOAD = "reload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How a life is to be led.

    reloaded  it follows another one in the same process; what refuses it may be on its way to the new settings too.
    refused   what is wrong with newer settings, which therefore were not taken.
    """

    migrate_first: bool = False
    until_empty: bool = False
    reloaded: bool = False
    refused: tuple[str, ...] = ()


class Container:
    """The parts of one running worker; `run` ends them in reverse order."""

    def __init__(
        self,
        flow: Flow,
        manager: ContainerConfigManager,
        *,
        read: Callable[[], ContainerConfigManager],
        orders: Orders,
        checkpoints: Checkpoints,
        logging_: Logging,
    ) -> None:
        self._flow = flow
        self._manager = manager
        self._config = config = manager.load_container_config()
        self._read = read
        self._orders = orders
        self._checkpoints = checkpoints
        self._logging = logging_
        self._stack = ExitStack()
        self._clock = SystemClock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._finished = threading.Event()
        self._reload = threading.Event()
        label = label_of(config)
        named = config.worker.worker_id or f"{label}:{os.getpid()}"
        self._owner = f"{named}:{uuid.uuid4().hex[:12]}"  # names are reused, incarnations are not
        self._metrics = Metrics(flow=flow.name)
        on_change = breaker_events(self._metrics)
        self._databases = open_databases(config, on_change=on_change, let_in=orders.reloaded)
        self._dsns = {name: database.dsn for name, database in self._databases.items()}
        recovery = config.recovery
        self._recovery = ErrorRecoveryManager(
            RecoveryPolicy.of(exit_after_s=recovery.exit_after_s, refused_after_s=recovery.refused_after_s),
            on_action=recovery_events(self._metrics),
            on_change=on_change,
        )
        self._gates = Gates(
            high=config.worker.high_water,
            low=config.worker.low_water,
            memory_bytes=config.resource_limits.memory_bytes,
            metrics=self._metrics,
            retry_after_s=config.intake.retry_after_s,
        )
        self._policy = worker_policy(config)
        self._events = Telemetry(self._metrics, flow.name, lambda: self._monitor.heartbeat())
        self._upkeep = Upkeep(
            config,
            label=label,
            owner=self._owner,
            metrics=self._metrics,
            gates=self._gates,
            logging_=logging_,
            recovery=self._recovery,
            counts=lambda: self._events.counts,
            stop=self._stop,
        )
        self._monitor = build_monitor(
            config, metrics=self._metrics, pool_of=self._pool, breaker_of=self._service_breaker
        )

    def drain(self) -> None:
        """Take no more work, finish what is begun, end. From any thread."""
        self._monitor.set_draining()
        self._metrics.set_worker_state("draining")
        self._stop.set()
        self._wake.set()

    def run(self) -> End:
        """Live. Raises RpaError for what keeps the worker from running."""
        with self._stack:
            try:
                self._live()
            except BaseException as error:
                self._upkeep.fail(error)
                raise
            self._upkeep.end()
        return End.RELOAD if self._reload.is_set() else End.DRAINED

    def _live(self) -> None:
        self._monitor.start()
        self._stack.callback(self._monitor.stop)
        server = surface.start(
            self._config, self._monitor, self._metrics, lambda: self._pool("rpa_db", "intake"), self._gates
        )
        self._stack.callback(server.stop, 2.0)
        self._upkeep.start(self._stack)
        self._watch_config()
        if self._orders.refused:
            self._upkeep.refuse_configuration(self._orders.refused)
        self._upkeep.on_cancel(self.drain)
        if self._wait_for_dependencies():
            self._work(server.port)

    def _work(self, port: int) -> None:
        self._check_schema()
        loop = self._stack.enter_context(asyncio.Runner()) if self._flow.is_async else None
        worker = self._worker(self._open_flow(), loop)  # the flow's resources close before the loop does
        watcher = Watcher(
            database=self._databases["rpa_db"],
            flow=self._flow.name,
            wake=self._wake,
            listen=self._config.worker.notify,
            on_depths=self._take_in,
            keeping=Keeping(
                period_days=self._config.worker.period_days, retention_days=self._config.worker.retention_days
            ),
            clock=self._clock,
        )
        watcher.start()
        self._stack.callback(watcher.stop)
        self._guard(worker)
        _relieve_collector()
        self._monitor.set_started()
        self._upkeep.started()
        self._recovery.started()
        logger.info(
            "%s %s started as %s, probes on port %d",
            self._flow.name,
            VERSION,
            self._owner,
            port,
            extra={"event.action": "worker.started", "http.port": port},
        )
        try:
            worker.run()
        finally:
            self._finished.set()
        self._metrics.set_worker_state("stopped")
        logger.info("%s drained", self._flow.name, extra={"event.action": "worker.stopped"})

    def _watch_config(self) -> None:
        """Drain, to live again, when what the configuration was read from has changed for something valid."""
        folders, files = self._manager.watched()
        if self._flow.files is not None:
            files |= set(self._flow.files(self._manager.load_flow_settings()))
        self._watch = ConfigWatch(
            folders,
            files,
            problems=self._problems,
            accept=self._begin_reload,
            refuse=self._upkeep.refuse_configuration,
            recover=self._upkeep.accept_configuration,
            interval_s=self._config.recovery.reload_interval_s,
        )
        self._watch.start()
        self._stack.callback(self._watch.stop)

    def _problems(self) -> tuple[str, ...]:
        """What is wrong with the settings as they stand now."""
        manager = self._read()
        if problems := manager.problems():
            return lines(problems)
        try:
            if self._flow.validate is not None:
                self._flow.validate(manager.load_flow_settings())
        except ConfigError as error:
            return error.problems
        return ()

    def _begin_reload(self) -> None:
        for name, database in self._read().load_container_config().database_connections.items():
            if name in self._databases:
                self._databases[name].adopt(database.dsn())  # what is finished is still to be committed
        self._reload.set()
        self.drain()

    def _take_in(self, depths: Mapping[str, FlowDepth]) -> None:
        """A sample of the queue: for the gates, and to know when there is nothing left."""
        self._gates.take_in(depths)
        own = depths.get(self._flow.name)
        unfinished = own.unfinished if own is not None else 0
        if self._orders.until_empty and unfinished == 0:
            logger.info("%s has nothing left to do", self._flow.name, extra={"event.action": "worker.empty"})
            self.drain()

    def _pool(self, name: str, use: str = "health") -> ConnectionPool[psycopg.Connection[Any]]:
        """A pool for one use of a database: uploads must not take the connection that readiness asks over."""
        database = self._config.database_connections[name]
        pool = self._databases[name].pool(
            max_size=1 if use == "health" else database.connection_pool_size,
            application_name=f"rpa {self._flow.name} {use}",
        )
        self._stack.callback(pool.close, timeout=1.0)
        return pool

    def _wait_for_dependencies(self) -> bool:
        def on_state(name: str, up: bool) -> None:
            # Under the name that the health monitor goes on with.
            self._metrics.dependency_up.labels(dependency=name.removeprefix("database:")).set(up)

        orchestrator = ServiceOrchestrator(
            self._config,
            stop=self._stop,
            on_state=on_state,
            breaker_of=self._breaker,
            bear_s=self._config.recovery.refused_after_s if self._orders.reloaded else 0.0,
        )
        try:
            orchestrator.require_dependencies(self._config.dependency_timeout_s)
        except DependencyUnavailable:
            if not self._stop.is_set():
                raise
        return not self._stop.is_set()

    def _check_schema(self) -> None:
        if self._orders.migrate_first:
            schema.bring_up_to_date([self._flow], self._dsns)
        schema.check(self._flow, self._dsns)

    def _open_flow(self) -> Any:
        if self._flow.open is None:
            return None
        context = OpenContext(
            flow=self._flow.name,
            settings=self._manager.load_flow_settings(),
            databases=self._databases,
            breaker=self._service_breaker,
            checkpoints=self._checkpoints,
        )
        return self._stack.enter_context(self._flow.open(context))

    def _open_ledger(self) -> Ledger:
        return Ledger.over(
            self._databases["rpa_db"],
            flow=self._flow.name,
            owner=self._owner,
            ttl_s=self._config.worker.lease_ttl_s,
            checkpoints=self._checkpoints,
        )

    def _breaker(self, dependency: str) -> CircuitBreaker:
        """Of a database (`database:<name>`) or a service."""
        kind, _, name = dependency.partition(":")
        return self._databases[name].breaker if kind == "database" and name else self._service_breaker(dependency)

    def _service_breaker(self, name: str) -> CircuitBreaker:
        return self._recovery.implement_circuit_breaker(name, SERVICE_POLICY)

    def _remedies(self) -> Remedies:
        return Remedies(
            self._recovery,
            new_pools=lambda name: self._databases[name].renew_pools(),
            reload_secrets=self._watch.look_now,
            alert=self._alert,
            calm=self._upkeep.database_is_back,
        )

    def _alert(self, name: str, action: RecoveryAction) -> None:
        refused = isinstance(self._databases[name].trouble, StoreRefused)
        self._upkeep.database_in_trouble(name, action.reason, refused=refused)

    def _worker(self, resources: Any, loop: asyncio.Runner | None) -> Worker:
        gates = [self._gates.memory, self._gates.disk]
        if self._flow.next_flow:
            gates.append(self._gates.queue(self._flow.next_flow))
        held = open_held(
            self._flow,
            self._upkeep.spools,
            self._open_ledger,
            events=self._events,
            checkpoints=self._checkpoints,
            retry=self._policy.retry,
        )
        held.start()
        self._stack.callback(held.stop, 2.0)
        held.settle(self._config.worker.lease_ttl_s)
        return Worker(
            flow=self._flow,
            context=FlowContext(flow=self._flow.name, resources=resources, settings=self._manager.load_flow_settings()),
            open_ledger=self._open_ledger,
            policy=self._policy,
            stop=self._stop,
            wake=self._wake,
            gates=gates,
            events=self._events,
            clock=self._clock,
            checkpoints=self._checkpoints,
            loop=loop,
            held=held.work,
            recovery=self._remedies().session("rpa_db", self._databases["rpa_db"].breaker),
        )

    def _guard(self, worker: Worker) -> None:
        """Two threads that can end the process: one when the drain takes too long, one when the loop hangs."""

        timeout_s = self._config.worker.shutdown_timeout_s

        def drain_deadline() -> None:
            self._stop.wait()
            drain.watch(
                finished=self._finished,
                timeout_s=timeout_s,
                keeper=worker.keeper,
                open_ledger=self._open_ledger,
                last_words=lambda: self._upkeep.crash(
                    catalogue.drain_timeout(self._flow.name, timeout_s), "the drain took too long"
                ),
            )

        threading.Thread(target=drain_deadline, name="drain-deadline", daemon=True).start()
        threading.Thread(
            target=selfcheck.watch,
            kwargs={
                "age_s": self._monitor.heartbeat_age_s,
                "limit_s": 2 * self._config.health_check_config.heartbeat_max_age_s,
                "finished": self._finished,
                "flush": self._logging.flush,
                "alert": lambda age_s: self._upkeep.crash(
                    catalogue.worker_hung(self._flow.name, age_s), f"the main loop has not moved for {age_s:.0f} s"
                ),
            },
            name="self-check",
            daemon=True,
        ).start()


def _relieve_collector() -> None:
    """What is loaded by now stays loaded: the garbage collector need not walk it while records are processed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
