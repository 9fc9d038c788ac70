"""The flow value of rpa3 and its handler."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rpa_core.clock import SystemClock
from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Outcome
from rpa_flows.rpa3.delivery import Delivery
from rpa_flows.rpa3.settings import Rpa3Settings


@contextmanager
def open_delivery(context: OpenContext) -> Iterator[Delivery]:
    """The receiver of the settings. Leave it before the event loop of the handler is closed."""
    settings: Rpa3Settings = context.settings
    delivery = Delivery(settings, SystemClock(), context.breaker("delivery"))
    with _quiet("httpx", "httpcore"):
        try:
            yield delivery
        finally:
            delivery.close()


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """The client logs a line for every request, and at DEBUG the headers of the answer, which may echo the token."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


async def deliver(record: Record, context: FlowContext) -> Outcome:
    """POST the scored response as it is stored, under the record's own idempotency key."""
    delivery: Delivery = context.resources
    return await delivery.post(record.raw, context.idempotency_key(record))


FLOW = Flow(
    name="rpa3",
    handle=deliver,
    open=open_delivery,
    concurrency=64,  # CONTAINER_DELIVERY_CONCURRENCY bounds the requests under way
    settings=Rpa3Settings,
)
