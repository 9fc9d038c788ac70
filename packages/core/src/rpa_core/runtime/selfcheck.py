"""The fatal self-check. Docker and Compose do not restart an unhealthy container, only one that ended: so it ends."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

from rpa_core.errors import RpaError
from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")


def watch(
    *,
    age_s: Callable[[], float],
    limit_s: float,
    finished: threading.Event,
    flush: Callable[[], object],
    alert: Callable[[float], object] | None = None,
    alert_within_s: float = 3.0,
) -> None:
    """End the process with exit code 70 once the main loop's heartbeat is older than `limit_s`.

    Liveness has failed for as long again by then, so an orchestrator that probes has acted already. Where all
    threads stand is written to stderr first, and `alert(age_s)` is called; it has `alert_within_s` to come back.
    """
    while not pause(finished, min(1.0, limit_s / 10)):
        age = age_s()
        if age > limit_s:
            logger.critical(
                "the main loop has not moved for %.0f s: ending, so that the restart policy can act. If handlers "
                "may take that long, raise CONTAINER_HEALTH_HEARTBEAT_MAX_AGE",
                age,
                extra={"event.action": "worker.hung"},
            )
            faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
            if alert is not None:
                within(alert_within_s, partial(alert, age))
            flush()
            os._exit(RpaError.exit_code)


def within(seconds: float, act: Callable[[], object]) -> bool:
    """Have it done by a thread that nobody waits for longer; whether it came back.

    For last words: what the main loop hangs in may hold a lock that they need.
    """
    thread = threading.Thread(target=act, name="last-words", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
