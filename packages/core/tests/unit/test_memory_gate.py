"""The gate before memory: whose memory counts against which limit."""

from __future__ import annotations

import pytest

from rpa_core.config.models import ResourceLimits
from rpa_core.observability.metrics import Metrics
from rpa_core.runtime import gates

MIB = 2**20


@pytest.mark.requirement("R6.5")
@pytest.mark.parametrize(
    ("group_limit", "limit", "closed"),
    [
        (512 * MIB, 512 * MIB, True),  # the container's: all that is in it counts
        (None, 512 * MIB, False),  # a variable on a machine that others use too
        (1024 * MIB, 512 * MIB, False),
        (None, 64 * MIB, True),
        (None, None, False),
    ],
)
def test_a_limit_is_measured_by_what_it_limits(
    monkeypatch: pytest.MonkeyPatch, group_limit: int | None, limit: int | None, closed: bool
) -> None:
    """The group has 500 MiB in use, 100 of them by this process."""
    monkeypatch.setattr(gates, "read_limits", lambda: ResourceLimits(memory_bytes=group_limit))
    monkeypatch.setattr(gates, "memory_usage_bytes", lambda: 500 * MIB)
    monkeypatch.setattr(gates, "resident_bytes", lambda: 100 * MIB)
    made = gates.Gates(high=10, low=5, memory_bytes=limit, metrics=Metrics(flow="f"))
    made.take_in({})
    assert made.memory.closed is closed
