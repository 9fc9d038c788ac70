"""A flow whose handler computes in pure Python and never lets go of the interpreter by itself."""

from __future__ import annotations

import time

from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome

SPEC = "benchmarks.burn:FLOW"


def handle(record: Record, context: FlowContext) -> Outcome:
    """For `seconds` of the payload."""
    end, total = time.monotonic() + record.payload["seconds"], 0
    while time.monotonic() < end:
        for number in range(10_000):
            total += number * number % 7
    return Done({"total": total})


FLOW = Flow(name="burn", handle=handle)
