"""The end of a worker: what is finished is committed and the rest given back, within the shutdown timeout."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from rpa_core.errors import TransientError
from rpa_core.processing.lease import LeaseKeeper
from rpa_core.store.ledger import Ledger

logger = logging.getLogger("rpa.runtime")
_LAST_WORDS_S = 2.0
_SPARE_S = 1.0  # before the platform kills


class DrainTimeout(TransientError):
    """A handler did not come back in time."""

    code = "TMP004"


def watch(
    *,
    finished: threading.Event,
    closed: threading.Event,
    timeout_s: float,
    grace_s: float,
    keeper: LeaseKeeper,
    open_ledger: Callable[[], Ledger],
    last_words: Callable[[], object],
) -> None:
    """End the process with exit code 75 if `finished` is not set within `timeout_s`, or `closed` within `grace_s`.

    The leases are given back first, so that another worker need not wait for them to run out; `last_words` are for
    whoever is to know. The handler that hangs may still act outside the database; its outcome can no longer be written.
    """
    began_s = time.monotonic()
    if finished.wait(timeout_s):
        if closed.wait(max(_SPARE_S, began_s + grace_s - _SPARE_S - time.monotonic())):
            return
        logger.error(
            "all work is committed, but closing takes too long (what the flow's `open` gave, most likely): ending",
            extra={"event.action": "worker.drain_timeout"},
        )
        last_words()
        os._exit(DrainTimeout.exit_code)
    claim = keeper.let_go()
    logger.error(
        "drain took longer than %.1f s: giving %d records back and ending",
        timeout_s,
        claim.n if claim else 0,
        extra={"event.action": "worker.drain_timeout"},
    )
    if claim is not None:
        give_back = threading.Thread(target=_release, args=(open_ledger, claim), daemon=True)
        give_back.start()
        give_back.join(_LAST_WORDS_S)
    last_words()
    os._exit(DrainTimeout.exit_code)


def _release(open_ledger: Callable[[], Ledger], claim: object) -> None:
    from rpa_core.store.values import Claim

    assert isinstance(claim, Claim)
    ledger = open_ledger()
    ledger.release(claim, claim.chunks)
    ledger.close()
