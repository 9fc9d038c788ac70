"""The gate with two water marks."""

from __future__ import annotations

import pytest

from rpa_core.processing.backpressure import Gate


@pytest.mark.requirement("R6.5")
def test_a_gate_closes_high_and_opens_low() -> None:
    """Between the marks it stays as it is, so that it does not flutter; each change is told once."""
    gate = Gate("queue", high=100, low=80)
    changes = [(level, gate.update(level), gate.closed) for level in (0, 99, 100, 101, 99, 80, 79, 90, 100)]
    assert changes == [
        (0, False, False),
        (99, False, False),
        (100, True, True),
        (101, False, True),
        (99, False, True),
        (80, False, True),
        (79, True, False),
        (90, False, False),
        (100, True, True),
    ]
    assert gate.level == 100


@pytest.mark.requirement("R6.5")
@pytest.mark.parametrize("low", [100, 101])
def test_marks_that_leave_no_room_are_refused(low: float) -> None:
    """Low water must be below high water; the message names the gate and both."""
    with pytest.raises(ValueError, match=f"gate queue: low water {low} must be below high water 100"):
        Gate("queue", high=100, low=low)
