"""`run_flow`: everything one worker container needs, wired, run and ended in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rpa_core.checkpoints import Checkpoints
from rpa_core.clock import SystemClock
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import ContainerConfig
from rpa_core.errors import DependencyUnavailable, RpaError
from rpa_core.observability.format import Service
from rpa_core.observability.logs import Logging, configure
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.flow import Flow, FlowContext, OpenContext
from rpa_core.processing.worker import Worker, WorkerPolicy
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.runtime import drain, flows, schema, selfcheck, surface
from rpa_core.runtime.gates import Gates
from rpa_core.runtime.monitoring import build_monitor
from rpa_core.runtime.signals import Signals
from rpa_core.runtime.telemetry import Telemetry
from rpa_core.runtime.watcher import Keeping, Watcher
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.store.connect import open_pool
from rpa_core.store.ledger import Ledger
from rpa_core.version import VERSION

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

logger = logging.getLogger("rpa.runtime")
_SWITCH_INTERVAL_S = 0.001  # a handler that burns CPU holds up the probes by a few of these
_YOUNG_OBJECTS = 20_000  # more than a claim of records holds at once: without cycles, nothing is ever walked


def run_flow(
    flow_spec: str,
    environ: Mapping[str, str],
    *,
    checkpoints: Checkpoints | None = None,
    migrate_first: bool = False,
) -> int:
    """Run a flow until SIGTERM; returns the exit code. Must be called from the main thread.

    Raises RpaError, with its exit code, for what keeps the worker from running: configuration, schema, refusals.
    """
    flow = flows.load(flow_spec)
    manager = ContainerConfigManager(
        environ,
        flow_settings=flow.settings,
        flow_name=flow.name,
        databases=("rpa_db", *flow.databases),
        others=flows.settings_of_others,
    )
    config = manager.load_container_config()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    monitoring = config.monitoring_config
    logging_ = configure(
        monitoring.log_format,
        monitoring.log_level,
        secrets=manager.secret_values(),
        service=Service(name=flow.name, version=VERSION, environment=config.environment, node=socket.gethostname()),
        queue_records=monitoring.log_queue_records,
    )
    try:
        with ExitStack() as stack:
            return _Container(flow, config, manager, checkpoints or Checkpoints(), logging_, stack).run(migrate_first)
    except RpaError as error:
        logger.critical("%s", error, extra={"event.action": "worker.failed", "error.code": error.code})
        raise
    finally:
        logging_.stop()


class _Container:
    """The parts of one running worker; `stack` closes them in reverse order."""

    def __init__(
        self,
        flow: Flow,
        config: ContainerConfig,
        manager: ContainerConfigManager,
        checkpoints: Checkpoints,
        logging_: Logging,
        stack: ExitStack,
    ) -> None:
        self._flow = flow
        self._config = config
        self._manager = manager
        self._checkpoints = checkpoints
        self._logging = logging_
        self._stack = stack
        self._clock = SystemClock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._finished = threading.Event()
        self._dsns = {name: database.dsn() for name, database in config.database_connections.items()}
        label = config.worker.worker_id or f"{socket.gethostname()}:{os.getpid()}"
        self._owner = f"{label}:{uuid.uuid4().hex[:12]}"  # names are reused, incarnations are not
        self._metrics = Metrics(flow=flow.name)
        self._gates = Gates(
            high=config.worker.high_water,
            low=config.worker.low_water,
            memory_bytes=config.resource_limits.memory_bytes,
            metrics=self._metrics,
            retry_after_s=config.intake.retry_after_s,
        )

    def run(self, migrate_first: bool) -> int:
        signals = Signals(lambda _: self._begin_drain())
        signals.install()
        self._stack.callback(signals.remove)
        self._monitor = build_monitor(self._config, metrics=self._metrics, pool_of=self._pool)
        self._monitor.start()
        self._stack.callback(self._monitor.stop)
        server = surface.start(
            self._config, self._monitor, self._metrics, lambda: self._pool("rpa_db", "intake"), self._gates
        )
        self._stack.callback(server.stop, 2.0)
        if not self._wait_for_dependencies():
            return 0  # told to stop while waiting
        self._check_schema(migrate_first)
        loop = self._stack.enter_context(asyncio.Runner()) if self._flow.is_async else None
        worker = self._worker(self._open_flow(), loop)  # the flow's resources close before the loop does
        watcher = Watcher(
            dsn=self._dsns["rpa_db"],
            flow=self._flow.name,
            wake=self._wake,
            listen=self._config.worker.notify,
            on_depths=self._gates.take_in,
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
        logger.info(
            "%s %s started as %s, probes on port %d",
            self._flow.name,
            VERSION,
            self._owner,
            server.port,
            extra={"event.action": "worker.started", "http.port": server.port},
        )
        try:
            worker.run()
        finally:
            self._finished.set()
        self._metrics.set_worker_state("stopped")
        logger.info("%s drained", self._flow.name, extra={"event.action": "worker.stopped"})
        return 0

    def _begin_drain(self) -> None:
        self._monitor.set_draining()
        self._metrics.set_worker_state("draining")
        self._stop.set()
        self._wake.set()

    def _pool(self, name: str, use: str = "health") -> ConnectionPool[psycopg.Connection[Any]]:
        """A pool for one use of a database: uploads must not take the connection that readiness asks over."""
        database = self._config.database_connections[name]
        pool = open_pool(
            self._dsns[name],
            max_size=1 if use == "health" else database.connection_pool_size,
            timeout_s=database.connection_timeout,
            application_name=f"rpa {self._flow.name} {use}",
        )
        self._stack.callback(pool.close, timeout=1.0)
        return pool

    def _wait_for_dependencies(self) -> bool:
        def on_state(name: str, up: bool) -> None:
            # Under the name that the health monitor goes on with.
            self._metrics.dependency_up.labels(dependency=name.removeprefix("database:")).set(up)

        orchestrator = ServiceOrchestrator(self._config, stop=self._stop, on_state=on_state)
        try:
            orchestrator.require_dependencies(self._config.dependency_timeout_s)
        except DependencyUnavailable:
            if not self._stop.is_set():
                raise
        return not self._stop.is_set()

    def _check_schema(self, migrate_first: bool) -> None:
        if migrate_first:
            schema.bring_up_to_date([self._flow], self._dsns)
        schema.check(self._flow, self._dsns)

    def _open_flow(self) -> Any:
        if self._flow.open is None:
            return None
        context = OpenContext(
            flow=self._flow.name,
            settings=self._manager.load_flow_settings(),
            databases=self._dsns,
            checkpoints=self._checkpoints,
        )
        return self._stack.enter_context(self._flow.open(context))

    def _open_ledger(self) -> Ledger:
        database = self._config.database_connections["rpa_db"]
        return Ledger.open(
            self._dsns["rpa_db"],
            flow=self._flow.name,
            owner=self._owner,
            ttl_s=self._config.worker.lease_ttl_s,
            connect_timeout_s=database.connection_timeout,
            checkpoints=self._checkpoints,
        )

    def _worker(self, resources: Any, loop: asyncio.Runner | None) -> Worker:
        settings = self._config.worker
        reconnect = self._config.database_connections["rpa_db"].retry_config
        gates = [self._gates.memory]
        if self._flow.next_flow:
            gates.append(self._gates.queue(self._flow.next_flow))
        return Worker(
            flow=self._flow,
            context=FlowContext(flow=self._flow.name, resources=resources, settings=self._manager.load_flow_settings()),
            open_ledger=self._open_ledger,
            policy=WorkerPolicy(
                ttl_s=settings.lease_ttl_s,
                claim_records=settings.claim_records,
                max_claims=settings.max_claims,
                poll_max_s=settings.poll_max_s,
                commit_interval_s=min(3.0, settings.lease_ttl_s / 2),
                retry=RetryPolicy(
                    max_attempts=settings.max_tries, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s
                ),
                retry_budget_ratio=settings.retry_budget_ratio,
                reconnect=RetryPolicy(
                    max_attempts=reconnect.max_attempts, base_s=reconnect.base_s, cap_s=reconnect.cap_s
                ),
            ),
            stop=self._stop,
            wake=self._wake,
            gates=gates,
            events=Telemetry(self._metrics, self._flow.name, self._monitor.heartbeat),
            clock=self._clock,
            checkpoints=self._checkpoints,
            loop=loop,
        )

    def _guard(self, worker: Worker) -> None:
        """Two threads that can end the process: one when the drain takes too long, one when the loop hangs."""

        def drain_deadline() -> None:
            self._stop.wait()
            drain.watch(
                finished=self._finished,
                timeout_s=self._config.worker.shutdown_timeout_s,
                keeper=worker.keeper,
                open_ledger=self._open_ledger,
                flush=self._logging.flush,
            )

        threading.Thread(target=drain_deadline, name="drain-deadline", daemon=True).start()
        threading.Thread(
            target=selfcheck.watch,
            kwargs={
                "age_s": self._monitor.heartbeat_age_s,
                "limit_s": 2 * self._config.health_check_config.heartbeat_max_age_s,
                "finished": self._finished,
                "flush": self._logging.flush,
            },
            name="self-check",
            daemon=True,
        ).start()


def _relieve_collector() -> None:
    """What is loaded by now stays loaded: the garbage collector need not walk it while records are processed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
