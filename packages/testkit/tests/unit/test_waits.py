"""Waiting on conditions."""

from __future__ import annotations

import pytest

from rpa_testkit.waits import WaitTimeoutError, until


@pytest.mark.requirement("R3.3")
def test_until_returns_the_first_truthy_value() -> None:
    """The value itself comes back, so that a test need not ask again."""
    values = iter([0, None, "", "ready"])
    assert until(lambda: next(values), 5.0, "a value", every_s=0.0) == "ready"


@pytest.mark.requirement("R3.3")
def test_until_says_what_it_waited_for_and_what_it_saw_last() -> None:
    """A timeout names the wait, the last value and the context."""
    with pytest.raises(WaitTimeoutError, match=r"waited 0 s for the moon; last value: \[\]") as caught:
        until(list, 0.0, "the moon", lambda: "the worker's log")
    assert caught.value.__notes__ == ["the worker's log"]


@pytest.mark.requirement("R3.3")
def test_until_asks_once_more_at_the_deadline() -> None:
    """A condition that is true from the start needs no time at all."""
    assert until(lambda: True, 0.0, "nothing") is True
