"""Named points on a record's way, so that a test can stop or kill a worker exactly there.

In production nobody listens: `Checkpoints.reach` is an empty call. A harness passes its own subclass.
"""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """Where a crash is interesting; `docs/guarantees.md` has a row for each."""

    CLAIMED = "claimed"
    HANDLED = "handled"
    MID_BATCH = "mid-batch"
    RESULTS_WRITTEN = "results-written"
    COMMITTED = "committed"
    FLOW_EFFECT_DONE = "flow-effect-done"
    KEEPING = "keeping"
    KEPT = "kept"
    SPOOLING = "spooling"
    SPOOLED = "spooled"
    SPOOL_LOADED = "spool-loaded"


class Checkpoints:
    """Does nothing at every point."""

    def reach(self, point: Point) -> None:
        """Called by the worker each time it passes `point`."""
