"""Two threads that can end the process: one when the drain takes too long, one when the main loop hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rpa_core.config.models import ContainerConfig
from rpa_core.processing.worker import Worker
from rpa_core.resilience.alerts import catalogue
from rpa_core.runtime import drain, selfcheck
from rpa_core.runtime.upkeep import Upkeep
from rpa_core.store.ledger import Ledger

_KEEP_S = 2.0


def start(
    config: ContainerConfig,
    worker: Worker,
    *,
    upkeep: Upkeep,
    open_ledger: Callable[[], Ledger],
    heartbeat_age_s: Callable[[], float],
    stop: threading.Event,
    finished: threading.Event,
    closed: threading.Event,
    flush: Callable[[], object],
) -> None:
    """Watch from now until `finished`, and the end until `closed`; the drain's time begins with `stop`."""
    timeout_s = config.worker.shutdown_timeout_s

    def last_words() -> None:
        selfcheck.within(_KEEP_S, worker.keep_in_hand)
        upkeep.crash(catalogue.drain_timeout(config.flow_name, timeout_s), "the drain took too long")

    def drain_deadline() -> None:
        stop.wait()
        drain.watch(
            finished=finished,
            closed=closed,
            timeout_s=timeout_s,
            grace_s=config.worker.stop_grace_s,
            keeper=worker.keeper,
            open_ledger=open_ledger,
            last_words=last_words,
        )

    def hung(age_s: float) -> None:
        upkeep.crash(catalogue.worker_hung(config.flow_name, age_s), f"the main loop has not moved for {age_s:.0f} s")

    def self_check() -> None:
        selfcheck.watch(
            age_s=heartbeat_age_s,
            limit_s=2 * config.health_check_config.heartbeat_max_age_s,
            finished=finished,
            flush=flush,
            alert=hung,
        )

    threading.Thread(target=drain_deadline, name="drain-deadline", daemon=True).start()
    threading.Thread(target=self_check, name="self-check", daemon=True).start()
