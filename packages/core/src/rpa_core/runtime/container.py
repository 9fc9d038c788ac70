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
from pathlib import Path
from typing import Any

from rpa_core.checkpoints import Checkpoints
from rpa_core.clock import SystemClock
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.errors import ConfigError, FlowPaused, StoreUnavailable, TransientError
from rpa_core.observability.logs import Logging
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.flow import Flow, FlowContext, OpenContext
from rpa_core.processing.worker import Worker
from rpa_core.resilience.disk.temporary import TemporaryFolder
from rpa_core.runtime import guards, reload, schema, surface
from rpa_core.runtime.ending import ThreadsOfLoop
from rpa_core.runtime.gates import Gates
from rpa_core.runtime.held import open_held
from rpa_core.runtime.monitoring import build_monitor
from rpa_core.runtime.opening import Opened, own_code
from rpa_core.runtime.policies import worker_policy
from rpa_core.runtime.stores import MAIN, Stores
from rpa_core.runtime.telemetry import Telemetry
from rpa_core.runtime.upkeep import Upkeep, label_of, temporary_folder
from rpa_core.runtime.watcher import Retention, Watcher
from rpa_core.store.lookup import FlowDepth
from rpa_core.version import VERSION
from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")
_TOLD_TO_STOP = object()
_AGAIN_S = 0.5
_LEAST_S = 1.0  # for what ends by itself
_YOUNG_OBJECTS = 20_000  # more than a claim of records holds at once: without cycles, nothing is ever walked


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How a life is to be led.

    reloaded  it follows another one in the same process; what refuses it may be on its way to the new settings too.
    proven    what had let the lives before it in.
    on_trial  with settings that give way to older ones if it cannot begin with them.
    refused   what is wrong with newer settings, which therefore were not taken.
    """

    migrate_first: bool = False
    until_empty: bool = False
    reloaded: bool = False
    proven: frozenset[str] = frozenset()
    on_trial: bool = False
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
        self._closed = threading.Event()
        self._drained_at: float | None = None
        self._paused_with = 0
        self._newer: ContainerConfigManager | None = None
        self._loop: asyncio.Runner | None = None
        label = label_of(config)
        named = config.worker.worker_id or f"{label}:{os.getpid()}"
        self._owner = f"{named}:{uuid.uuid4().hex[:12]}"  # names are reused, incarnations are not
        self._metrics = Metrics(flow=flow.name)
        self._metrics.log_dropped.set_function(lambda: logging_.dropped)
        self._stores = Stores(
            config,
            owner=self._owner,
            metrics=self._metrics,
            checkpoints=checkpoints,
            reloaded=orders.reloaded,
            proven=orders.proven,
        )
        self._gates = Gates(
            high=config.worker.high_water,
            low=config.worker.low_water,
            memory_bytes=config.resource_limits.memory_bytes,
            metrics=self._metrics,
        )
        self._monitor = build_monitor(
            config,
            metrics=self._metrics,
            pool_of=lambda name: self._stores.health_pool(name, self._stack),
            breaker_of=self._stores.service_breaker,
        )
        self._events = Telemetry(self._metrics, flow.name, self._monitor.heartbeat)
        self._upkeep = Upkeep(
            config,
            label=label,
            owner=self._owner,
            metrics=self._metrics,
            gates=self._gates,
            logging_=logging_,
            recovery=self._stores.recovery,
            counts=lambda: self._events.counts,
            stop=self._stop,
        )

    def drain(self) -> None:
        """Take no more work, finish what is begun, end. From any thread."""
        if self._drained_at is None:
            self._drained_at = self._clock.monotonic()
        self._monitor.set_draining()
        self._metrics.set_worker_state("draining")
        self._stop.set()
        self._wake.set()

    def left_s(self) -> float:
        """Seconds until the process has to be gone, for what still runs by then."""
        limit_s = self._config.worker.shutdown_timeout_s
        spent_s = 0.0 if self._drained_at is None else self._clock.monotonic() - self._drained_at
        return max(limit_s - spent_s, min(limit_s, _LEAST_S))

    @property
    def proven(self) -> frozenset[str]:
        """The services that have let this life in, or those before it."""
        return self._stores.recovery.proven()

    def run(self) -> ContainerConfigManager | None:
        """Live; returns newer settings to go on with, None after a drain.

        Raises RpaError for what keeps the worker from running.
        """
        try:
            with self._stack:
                try:
                    self._live()
                    if self._paused_with:
                        raise FlowPaused(
                            f"flow {self._flow.name} is paused with {self._paused_with:,} records "
                            f"unfinished, so it will not be empty; `rpa records resume {self._flow.name}` lets it work"
                        )
                except Exception as error:
                    self._judge(error)
                    self._upkeep.fail(error, ending=not (self._orders.on_trial and isinstance(error, ConfigError)))
                    raise
                self._upkeep.end()
        finally:
            self._closed.set()
        return self._newer

    def _judge(self, error: Exception) -> None:
        """What came this far ends the life. The decision is counted and logged; about services it was so before."""
        if isinstance(error, ConfigError):
            self._stores.recovery.handle_configuration_error(error)
        elif not isinstance(error, TransientError):
            self._stores.recovery.handle_runtime_error(error)

    def _live(self) -> None:
        self._stores.watch_lines(self._stack)
        self._stack.callback(self._upkeep.close)
        self._monitor.start()
        self._stack.callback(self._monitor.stop)
        http = surface.start(
            self._config,
            self._monitor,
            self._metrics,
            self._stores.databases[MAIN],
            self._gates,
            self._upkeep.spools,
            checkpoints=self._checkpoints,
        )
        self._stack.callback(http.stop, 2.0)
        self._upkeep.start(self._stack)
        with own_code(self._flow, "names its files"):
            self._watch = self._reload_watch()
        self._watch.start()
        self._stack.callback(self._watch.stop)
        if self._orders.refused:
            self._upkeep.refuse_configuration(self._orders.refused)
        self._upkeep.on_cancel(self.drain)
        resources = self._prepared()
        if resources is not _TOLD_TO_STOP:
            self._work(resources, http.port)

    def _reload_watch(self) -> reload.ConfigWatch:
        return reload.watch(
            self._flow,
            self._manager,
            read=self._read,
            accept=self._begin_reload,
            refuse=self._refuse_configuration,
            recover=self._upkeep.accept_configuration,
        )

    def _prepared(self) -> Any:
        """What the flow opened, when all that it needs is there; again from the start where some of it went away."""
        until_s = self._clock.monotonic() + self._config.dependency_timeout_s
        while self._stores.wait(self._stop):
            try:
                self._check_schema()
                return self._open_flow()
            except StoreUnavailable as error:
                if self._clock.monotonic() >= until_s:
                    raise
                logger.warning("starting again: %s", error, extra={"event.action": "worker.not_prepared"})
                pause(self._stop, _AGAIN_S)
        return _TOLD_TO_STOP

    def _work(self, resources: Any, port: int) -> None:
        worker = self._worker(resources)
        watcher = Watcher(
            database=self._stores.databases[MAIN],
            flow=self._flow.name,
            wake=self._wake,
            listen=self._config.worker.notify,
            on_depths=self._take_in,
            retention=Retention(
                period_days=self._config.worker.period_days,
                retention_days=self._config.worker.retention_days,
                metrics=self._metrics,
                clock=self._clock,
            ),
            clock=self._clock,
        )
        watcher.start()
        self._stack.callback(watcher.stop)
        guards.start(
            self._config,
            worker,
            upkeep=self._upkeep,
            open_ledger=self._stores.open_ledger,
            heartbeat_age_s=self._monitor.heartbeat_age_s,
            stop=self._stop,
            finished=self._finished,
            closed=self._closed,
            flush=self._logging.flush,
        )
        _relieve_collector()
        self._monitor.set_started()
        self._upkeep.started()
        self._stores.recovery.started()
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
            self._stop.set()  # the time for the end begins, however it came
        self._metrics.set_worker_state("stopped")
        counts = {f"records.{name}": number for name, number in self._events.counts._asdict().items()}
        logger.info("%s drained", self._flow.name, extra={"event.action": "worker.stopped", **counts})

    def _refuse_configuration(self, problems: tuple[str, ...]) -> None:
        self._stores.recovery.handle_configuration_error(ConfigError(problems))
        self._upkeep.refuse_configuration(problems)

    def _begin_reload(self, manager: ContainerConfigManager) -> None:
        found = manager.load_container_config().database_connections
        self._stores.adopt({name: database.dsn() for name, database in found.items()})
        self._newer = manager
        self.drain()

    def _take_in(self, depths: Mapping[str, FlowDepth]) -> None:
        """A sample of the queue: for the gates, and to know when there is nothing left."""
        self._gates.take_in(depths)
        own = depths.get(self._flow.name)
        unfinished = own.unfinished if own is not None else 0
        if self._orders.until_empty and unfinished == 0:
            logger.info("%s has nothing left to do", self._flow.name, extra={"event.action": "worker.empty"})
            self.drain()
        elif self._orders.until_empty and own is not None and own.paused:
            self._paused_with = unfinished
            self.drain()

    def _check_schema(self) -> None:
        if self._orders.migrate_first:
            patience_s = self._config.dependency_timeout_s
            schema.bring_up_to_date([self._flow], self._stores.dsns, patience_s=patience_s, stop=self._stop)
        schema.check(self._flow, self._stores.dsns)

    def _open_flow(self) -> Any:
        if self._flow.is_async and self._loop is None:  # the flow's resources close before the loop does
            self._loop = self._stack.enter_context(asyncio.Runner())
            self._loop.get_loop().set_default_executor(ThreadsOfLoop())
        if self._flow.open is None:
            return None
        context = OpenContext(
            flow=self._flow.name,
            settings=self._manager.load_flow_settings(),
            databases=self._stores.databases,
            breaker=self._stores.recovery.implement_circuit_breaker,
            checkpoints=self._checkpoints,
            temporary=self._temporary,
        )
        opened = Opened(self._flow, context)
        return self._stack.enter_context(opened)

    def _temporary(self) -> Path:
        folder = TemporaryFolder(temporary_folder(), self._flow.name)
        self._stack.callback(folder.remove)
        return folder.path

    def _worker(self, resources: Any) -> Worker:
        policy = worker_policy(self._config)
        gates = [self._gates.memory, self._gates.disk]
        if self._flow.next_flow:
            gates.append(self._gates.queue(self._flow.next_flow))
        held = open_held(
            self._flow,
            self._upkeep.spools,
            self._stores.open_ledger,
            events=self._events,
            checkpoints=self._checkpoints,
            retry=policy.retry,
        )
        held.start()
        self._stack.callback(held.stop, 2.0)
        held.settle(self._config.worker.lease_ttl_s)
        return Worker(
            flow=self._flow,
            context=FlowContext(flow=self._flow.name, resources=resources, settings=self._manager.load_flow_settings()),
            open_ledger=self._stores.open_ledger,
            policy=policy,
            stop=self._stop,
            wake=self._wake,
            gates=gates,
            events=self._events,
            clock=self._clock,
            checkpoints=self._checkpoints,
            loop=self._loop,
            held=held.work,
            recovery=self._stores.recovery_of_ledger(
                reload_secrets=self._watch.look_now,
                in_trouble=self._upkeep.database_in_trouble,
                is_back=self._upkeep.database_is_back,
                on_pause=lambda: self._events.state("paused"),
            ),
        )


def _relieve_collector() -> None:
    """What is loaded by now stays loaded: the garbage collector need not walk it while records are processed."""
    gc.unfreeze()  # what an earlier life of this process left in cycles goes now
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
