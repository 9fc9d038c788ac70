"""A flow's own code that is no handler: what it opens for its worker, and what it raises while it does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from rpa_core.errors import FlowFailed, RpaError, StoreUnavailable, describe
from rpa_core.processing.flow import Flow, OpenContext
from rpa_core.store.connect import is_transient

logger = logging.getLogger("rpa.runtime")


class Opened:
    """What a flow's `open` gives, entered and left. Its errors are the flow's; it swallows none of the worker's."""

    def __init__(self, flow: Flow, context: OpenContext) -> None:
        assert flow.open is not None
        self._flow = flow
        with own_code(flow, "cannot be opened"):
            self._manager = flow.open(context)
            if not hasattr(self._manager, "__enter__"):
                kind = type(self._manager).__name__
                raise TypeError(f"open returned {kind}, not a context manager: put @contextlib.contextmanager above it")

    def __enter__(self) -> Any:
        with own_code(self._flow, "cannot be opened"):
            return self._manager.__enter__()

    def __exit__(self, *raised: Any) -> None:
        try:
            with own_code(self._flow, "cannot be closed"):
                self._manager.__exit__(*raised)
        except RpaError as error:
            if raised[1] is None:
                raise
            logger.warning("%s", error, extra={"event.action": "flow.not_closed"})


@contextmanager
def own_code(flow: Flow, what: str) -> Iterator[None]:
    """Around code of the flow's that is no handler: what it raises, SystemExit too, ends the worker in its name."""
    process = os.getpid()
    try:
        yield
    except RpaError:
        raise
    except BaseException as error:
        if isinstance(error, psycopg.Error) and is_transient(error):
            raise StoreUnavailable(f"flow {flow.name} {what}: {describe(error)}") from error
        logger.exception("flow %s %s", flow.name, what, extra={"event.action": "flow.failed"})
        raise FlowFailed(f"flow {flow.name} {what}: {describe(error)}") from error
    finally:
        if os.getpid() != process:  # a process that it forked: it must not become a second worker
            os._exit(RpaError.exit_code)
