"""`run_flow`: one process, and the lives of a container in it, one after the other.

A life ends with the process (SIGTERM, an error) or, when a mounted file or secret has changed, with a drain; then the
next one begins in the same process, with the settings read anew.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Mapping

from rpa_core.checkpoints import Checkpoints
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import ContainerConfig
from rpa_core.errors import ConfigError, RpaError, UsageError
from rpa_core.observability.files import LogFiles
from rpa_core.observability.format import Service
from rpa_core.observability.logs import Logging, configure
from rpa_core.processing.flow import Flow
from rpa_core.runtime import flows
from rpa_core.runtime.container import Container, Orders
from rpa_core.runtime.ending import Ending
from rpa_core.runtime.signals import Signals
from rpa_core.runtime.upkeep import label_of
from rpa_core.version import VERSION

logger = logging.getLogger("rpa.runtime")
_SWITCH_INTERVAL_S = 0.001  # a handler that burns CPU holds up the probes by a few of these


def run_flow(
    flow_spec: str,
    environ: Mapping[str, str],
    *,
    checkpoints: Checkpoints | None = None,
    migrate_first: bool = False,
    until_empty: bool = False,
    ending: Ending | None = None,
) -> int:
    """Run a flow until SIGTERM, with `until_empty` until none of its records is unfinished; returns the exit code.

    Must be called from the main thread. Raises RpaError, with its exit code, for what keeps the worker from running:
    configuration, schema, refusals, a flow that is paused with `until_empty`. `ending` is for a program that is nothing
    but a worker.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("run_flow must be called from the main thread, which is where signals arrive")
    ending = ending or Ending()
    process = _Process(flows.load(flow_spec), environ, checkpoints or Checkpoints(), until_empty, ending)
    manager = process.read()
    manager.load_container_config()  # everything that is wrong, before anything is begun
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    signals = Signals(lambda _: process.end())
    signals.install()
    try:
        return process.live(manager, migrate_first)
    finally:
        signals.remove()
        sys.setswitchinterval(interval_s)


class _Process:
    """What outlives a reload: the flow, the environment, and whether the process was told to end."""

    def __init__(
        self, flow: Flow, environ: Mapping[str, str], checkpoints: Checkpoints, until_empty: bool, ending: Ending
    ) -> None:
        self._flow = flow
        self._environ = environ
        self._checkpoints = checkpoints
        self._until_empty = until_empty
        self._left = ending
        self._proven: frozenset[str] = frozenset()
        self._ending = threading.Event()
        self._container: Container | None = None

    def read(self) -> ContainerConfigManager:
        """The configuration as it stands now."""
        return ContainerConfigManager(
            self._environ,
            flow_settings=self._flow.settings,
            flow_name=self._flow.name,
            databases=("rpa_db", *self._flow.databases),
            others=flows.settings_of_others,
        )

    def end(self) -> None:
        """Drain; whatever life is to come ends at once."""
        self._ending.set()
        if self._container is not None:
            self._container.drain()

    def live(self, manager: ContainerConfigManager, migrate_first: bool) -> int:
        """One life after the other."""
        orders = Orders(migrate_first=migrate_first, until_empty=self._until_empty)
        before: ContainerConfigManager | None = None
        while True:
            try:
                newer = self._life(manager, orders)
            except ConfigError as error:
                if before is None:
                    raise
                # What a look at the new settings could not tell, the start did: the old ones stay.
                manager, before, refused = before, None, error.problems
            else:
                if newer is None or self._ending.is_set():
                    return 0
                manager, before, refused = newer, manager, ()
            orders = Orders(
                until_empty=self._until_empty,
                reloaded=True,
                proven=self._proven,
                on_trial=before is not None,
                refused=refused,
            )

    def _life(self, manager: ContainerConfigManager, orders: Orders) -> ContainerConfigManager | None:
        logging_ = self._logging(manager)
        try:
            container = Container(
                self._flow, manager, read=self.read, orders=orders, checkpoints=self._checkpoints, logging_=logging_
            )
            self._container = container
            if self._ending.is_set():
                container.drain()
            newer = None
            try:
                newer = container.run()
            finally:
                self._proven = container.proven
                if newer is None or self._ending.is_set():
                    self._left.report(container.left_s())
            return newer
        except RpaError as error:
            logger.critical("%s", error, extra={"event.action": "worker.failed", "error.code": error.code})
            raise
        except Exception as error:
            logger.critical("a defect: %s", error, exc_info=error, extra={"event.action": "worker.failed"})
            raise RpaError(f"a defect ended the worker: {type(error).__name__}: {error}") from error
        finally:
            self._container = None
            logging_.stop()

    def _logging(self, manager: ContainerConfigManager) -> Logging:
        config = manager.load_container_config()
        monitoring = config.monitoring_config
        return configure(
            monitoring.log_format,
            monitoring.log_level,
            secrets=manager.secret_values(),
            service=Service(
                name=self._flow.name, version=VERSION, environment=config.environment, node=socket.gethostname()
            ),
            queue_records=monitoring.log_queue_records,
            files=self._files(config),
            own=[str(getattr(self._flow.handle, "__module__", "")).partition(".")[0]],
        )

    def _files(self, config: ContainerConfig) -> LogFiles | None:
        folder = config.disk.log_dir
        return LogFiles(folder, f"{self._flow.name}-{label_of(config)}") if folder is not None else None
