"""The only place that sleeps: every wait is on an event, so that a shutdown ends it at once."""

from __future__ import annotations

import threading


def pause(stop: threading.Event, seconds: float) -> bool:
    """Wait up to `seconds`; return True as soon as `stop` is set."""
    return stop.wait(max(0.0, seconds))
