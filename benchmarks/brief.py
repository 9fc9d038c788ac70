"""A flow whose handler waits a millisecond for each record, as for an answer from elsewhere."""

from __future__ import annotations

import threading

from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome

SPEC = "benchmarks.brief:FLOW"
_NEVER = threading.Event()


def handle(record: Record, context: FlowContext) -> Outcome:
    """Wait, and answer."""
    _NEVER.wait(0.001)
    return Done(record.payload)


FLOW = Flow(name="brief", handle=handle)
