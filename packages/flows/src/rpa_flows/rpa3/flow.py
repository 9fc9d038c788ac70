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
    settings: Rpa3Settings = context.settings or Rpa3Settings()
    requests = logging.getLogger("httpx")  # a line for every request at INFO, and none that says more than ours
    level = requests.level
    requests.setLevel(logging.WARNING)
    delivery = Delivery(settings, SystemClock())
    try:
        yield delivery
    finally:
        delivery.close()
        requests.setLevel(level)


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
