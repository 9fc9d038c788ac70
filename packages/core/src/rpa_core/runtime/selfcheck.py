"""The fatal self-check. Docker and Compose do not restart an unhealthy container, only one that ended: so it ends."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable

from rpa_core.errors import RpaError
from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")


def watch(
    *, age_s: Callable[[], float], limit_s: float, finished: threading.Event, flush: Callable[[], object]
) -> None:
    """End the process with exit code 70 once the main loop's heartbeat is older than `limit_s`.

    Liveness has failed for as long again by then, so an orchestrator that probes has acted already. Where all
    threads stand is written to stderr first.
    """
    while not pause(finished, min(1.0, limit_s / 10)):
        if age_s() > limit_s:
            logger.critical(
                "the main loop has not moved for %.0f s: ending, so that the restart policy can act. If handlers "
                "may take that long, raise CONTAINER_HEALTH_HEARTBEAT_MAX_AGE",
                age_s(),
                extra={"event.action": "worker.hung"},
            )
            flush()
            faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
            os._exit(RpaError.exit_code)
