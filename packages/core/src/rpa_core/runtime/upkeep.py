"""What stands around the work: spool, alerts, reports to Prefect, disk care, and what is known of earlier lives.

The work waits for none of it, with one exception: after crashes in a row a life begins with a wait.
"""

from __future__ import annotations

import logging
import random
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from rpa_core.config.models import ContainerConfig
from rpa_core.errors import ConfigError
from rpa_core.observability.logs import Logging
from rpa_core.observability.metrics import Metrics
from rpa_core.prefect.model import Counts
from rpa_core.resilience import lives
from rpa_core.resilience.alerts import catalogue
from rpa_core.resilience.alerts.model import Alert
from rpa_core.resilience.recovery import ErrorRecoveryManager
from rpa_core.resilience.spool.directory import open_spools
from rpa_core.runtime.alerting import open_alerts
from rpa_core.runtime.care import open_care
from rpa_core.runtime.gates import Gates
from rpa_core.runtime.reporting import open_reporting
from rpa_core.runtime.selfcheck import within
from rpa_core.runtime.spooling import SpoolKeeper
from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")
_LAST_REPORT_S = 3.0
_LAST_ALERT_S = 2.0
_LOOP = 3  # crashes in the window from which on somebody should know


class Upkeep:
    """One per life. `start` begins it, and the stack given there ends it; `close` comes last.

    `counts` says what became of records so far. `stop` is set when the life is to end.
    """

    def __init__(
        self,
        config: ContainerConfig,
        *,
        label: str,
        owner: str,
        metrics: Metrics,
        gates: Gates,
        logging_: Logging,
        recovery: ErrorRecoveryManager,
        counts: Callable[[], Counts],
        stop: threading.Event,
    ) -> None:
        self._config = config
        self._flow = config.flow_name
        self._logging = logging_
        self._stop = stop
        incarnation = owner.rpartition(":")[2]
        settings, directory = config.spool, config.spool.directory
        self.spools = open_spools(
            directory,
            flow=self._flow,
            label=label,
            incarnation=incarnation,
            max_bytes=settings.max_bytes,
            max_age_s=settings.max_age_s,
            reserve_bytes=settings.reserve_bytes,
        )
        self.alerts = open_alerts(config, spools=self.spools, instance=label, redactor=logging_.redactor)
        self.reporting = open_reporting(
            config,
            spools=self.spools,
            metrics=metrics,
            redactor=logging_.redactor,
            owner=owner,
            counts=counts,
            breaker=recovery.implement_circuit_breaker("prefect"),
            on_refusal=self._on_prefect_refusal,
        )
        self._keeper = SpoolKeeper(self.spools, metrics, stop, on_dead=self._on_dead)
        self._lives = lives.Lives(
            directory,
            flow=self._flow,
            label=label,
            incarnation=incarnation,
            window_s=config.recovery.crash_window_s,
            cap_s=config.recovery.crash_backoff_cap_s,
        )
        self._care = open_care(
            config,
            spools=self.spools,
            alerts=self.alerts,
            gates=gates,
            metrics=metrics,
            temporary=temporary_folder(),
            log_files=logging_.files,
        )

    def start(self, stack: ExitStack) -> None:
        """Begin; returns after the wait that earlier crashes ask for, or when the life is to end."""
        crashes = self._lives.begin()
        self._keeper.start()
        stack.callback(self._keeper.stop)
        self.alerts.start()
        stack.callback(self.alerts.stop, _LAST_ALERT_S)
        self._care.start()
        stack.callback(self._care.stop)
        if self.reporting is not None:
            root = logging.getLogger()
            self.reporting.handler.addFilter(self._logging.own_lines)
            root.addHandler(self.reporting.handler)
            stack.callback(self.reporting.stop, _LAST_REPORT_S)
            stack.callback(root.removeHandler, self.reporting.handler)
            self.reporting.start()
            self.reporting.begin()
        self._wait_after(crashes)

    def started(self) -> None:
        """The life has begun well: what an earlier one had to say is over."""
        self.alerts.resolve_earlier()

    def on_cancel(self, drain: Callable[[], object]) -> None:
        """Call `drain` if a person ends the run in Prefect."""
        reporting = self.reporting
        if reporting is not None:
            watch = partial(_when_set, reporting.cancel_requested, self._stop, drain)
            threading.Thread(target=watch, name="prefect-cancel", daemon=True).start()

    def close(self) -> None:
        """After everything that uses the spool."""
        self._lives.close()
        self.spools.close()

    def end(self) -> None:
        """The life ends well."""
        cancelled = self.reporting is not None and self.reporting.cancel_requested.is_set()
        self._report("cancelled" if cancelled else "completed", "cancelled in Prefect" if cancelled else "drained")
        self._lives.end()

    def fail(self, error: Exception, *, ending: bool) -> None:
        """The life ends by an error; if the process ends with it (`ending`), whoever is to know knows before."""
        self._report("failed", f"{type(error).__name__}: {error}")
        if ending:
            self.alerts.raise_(catalogue.worker_ending(self._flow, error))
        self._lives.end(well=False)  # it has told what is wrong: the platform's own backoff is enough

    def crash(self, alert: Alert, message: str) -> None:
        """The process is about to end by itself, without unwinding."""
        within(_LAST_REPORT_S + self._config.alerts.timeout_s, lambda: self._last_words(alert, message))
        self._logging.flush()

    def refuse_configuration(self, problems: tuple[str, ...]) -> None:
        """Changed settings are not taken."""
        self.alerts.raise_(catalogue.configuration_refused(self._flow, problems))

    def accept_configuration(self) -> None:
        """They are as they were."""
        self.alerts.resolve("ConfigurationRefused", "invalid")

    def database_in_trouble(self, name: str, why: str, refused: bool) -> None:
        """The recovery ladder has come to the point where somebody should know."""
        made = catalogue.database_refuses if refused else catalogue.database_away
        self.alerts.raise_(made(self._flow, name, why))

    def database_is_back(self, name: str) -> None:
        """What was said about it is over."""
        self.alerts.resolve("DatabaseRefuses", name)
        self.alerts.resolve("DatabaseAway", name)

    def _wait_after(self, crashes: Sequence[lives.Crash]) -> None:
        number = lives.count(crashes)
        wait_s = self._lives.wait_s(crashes, random.Random())  # noqa: S311 - jitter
        if number >= _LOOP:
            window_s = self._config.recovery.crash_window_s
            self.alerts.raise_(catalogue.crash_loop(self._flow, number, window_s, wait_s))
        if wait_s > 0:
            logger.warning(
                "%d crashes in a row: waiting %.1f s before anything is begun",
                number,
                wait_s,
                extra={"event.action": "worker.backing_off", "rpa.crashes": number},
            )
            pause(self._stop, wait_s)

    def _on_dead(self, kind: str, reason: str) -> None:
        if kind != "alert":  # which nobody took: another one would fare no better
            self.alerts.raise_(catalogue.spool_dead(self._flow, kind, reason))

    def _on_prefect_refusal(self, words: str | None) -> None:
        if words is None:
            self.alerts.resolve("PrefectRefuses", "refused")
        else:
            self.alerts.raise_(catalogue.prefect_refuses(self._flow, words))

    def _last_words(self, alert: Alert, message: str) -> None:
        self.alerts.raise_(alert)
        self._report("crashed", message)
        if self.reporting is not None:
            self.reporting.stop(_LAST_ALERT_S)  # what is spooled in memory is gone otherwise

    def _report(self, state: Literal["completed", "failed", "crashed", "cancelled"], message: str) -> None:
        if self.reporting is not None:
            self.reporting.end(state, message)


def temporary_folder() -> Path:
    """Where temporary files go. Raises ConfigError on a read-only root file system without one."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ConfigError(("TMPDIR  no folder for temporary files can be written; mount a tmpfs at /tmp",)) from error


def label_of(config: ContainerConfig) -> str:
    """What this worker is called, also after a restart."""
    return config.worker.worker_id or socket.gethostname()


def _when_set(asked: threading.Event, over: threading.Event, act: Callable[[], object]) -> None:
    while not over.is_set():
        if asked.wait(1.0):
            act()
            return
