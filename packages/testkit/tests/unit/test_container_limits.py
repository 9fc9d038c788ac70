"""What the container driver reads from the Engine's numbers, and how it gets a container killed for its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from rpa_testkit.drivers.container import limits
from rpa_testkit.drivers.container.handle import Container, EngineError, Ran, State
from rpa_testkit.drivers.protocol import NotPossible

pytestmark = pytest.mark.requirement("R3.3")
MIB = 2**20
TOLD = {
    "Running": False,
    "Paused": False,
    "ExitCode": 0,
    "OOMKilled": False,
    "StartedAt": "2026-01-01T00:00:00Z",
    "Pid": 0,
}


class Fake:
    """A container with `used` bytes in use; `refuses` is what a version 1 cgroup does; `victim` dies of dd."""

    name = "fake"
    id = "0" * 64

    def __init__(self, used: int, *, refuses: bool, victims: Sequence[bool] = (True,)) -> None:
        self.used = used
        self.refuses = refuses
        self.victims = list(victims)
        self.bounds: list[int] = []
        self.ran: list[str] = []
        self.up = True

    def state(self) -> State:
        """Whether it runs."""
        return State.of({**TOLD, "Running": self.up, "ExitCode": 0 if self.up else 137})

    def stats(self) -> Mapping[str, Any]:
        """What is in use."""
        return {"memory_stats": {"usage": self.used}}

    def update(self, *, memory_bytes: int) -> None:
        """Version 1 refuses, version 2 kills."""
        if memory_bytes < self.used:
            if self.refuses:
                raise EngineError("device or resource busy")
            self.up = False
        self.bounds.append(memory_bytes)

    def run(self, argv: Sequence[str]) -> Ran:
        """Dd uses up what is left."""
        self.ran.append(argv[0])
        self.up = not self.victims.pop(0)
        return Ran(code=137, text="")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake is killed at once or not at all."""
    monkeypatch.setattr(limits, "_KILL_S", 0.01)


def bound(fake: Fake, amount_bytes: int) -> None:
    """As the node does it."""
    limits.limit_memory(cast("Container", fake), amount_bytes)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_bound_with_room_to_grow_is_only_set(refuses: bool) -> None:
    """Nobody is killed."""
    fake = Fake(50 * MIB, refuses=refuses)
    bound(fake, 100 * MIB)
    assert (fake.bounds, fake.ran, fake.up) == ([100 * MIB], [], True)


def test_a_bound_below_what_is_used_kills_on_version_2() -> None:
    """At once, by itself."""
    fake = Fake(50 * MIB, refuses=False)
    bound(fake, 40 * MIB)
    assert not fake.up


def test_a_bound_below_what_is_used_is_approached_on_version_1() -> None:
    """As near as it gets, and the rest is used up; where dd itself was the victim, once more."""
    fake = Fake(50 * MIB, refuses=True, victims=(False, True))
    bound(fake, 40 * MIB)
    assert not fake.up
    assert fake.bounds == [51 * MIB, 51 * MIB]
    assert fake.ran == ["dd", "dd"]


def test_a_bound_just_above_what_is_used_is_reached() -> None:
    """What little is left is used up."""
    fake = Fake(50 * MIB, refuses=True)
    bound(fake, 52 * MIB)
    assert not fake.up
    assert fake.bounds == [52 * MIB, 52 * MIB]


def test_a_container_that_nobody_kills_is_an_error() -> None:
    """Not a fault that took no effect."""
    fake = Fake(50 * MIB, refuses=True, victims=[False] * 5)
    with pytest.raises(EngineError, match="was not killed"):
        bound(fake, 40 * MIB)


def test_no_bound_is_below_what_an_engine_takes() -> None:
    """6 MiB; CPU quotas of a millisecond."""
    fake = Fake(0, refuses=True)
    fake.up = False
    bound(fake, 1)
    assert fake.bounds == [6 * MIB]
    assert limits.quota_us(0.0001) == 1_000
    assert limits.quota_us(0.5) == 50_000
    with pytest.raises(NotPossible, match="-1 is no bound"):
        limits.limit_files(cast("Container", fake), -1)


@pytest.mark.parametrize("detail", [{"total_rss": 7, "rss": 1, "anon": 3}, {"anon": 7}])
def test_resident_memory_of_both_versions(detail: dict[str, int]) -> None:
    """`total_rss` of version 1, `anon` of version 2; an ended container has none."""
    assert limits.resident_bytes({"memory_stats": {"stats": detail}}) == 7
    assert limits.resident_bytes({}) == limits.used_bytes({}) == limits.throttled_periods({}) == 0
    assert limits.cpu_s({"cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}}}) == 2.5


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"ExitCode": 137}, -9),
        ({"ExitCode": 143}, -15),
        ({"ExitCode": 75}, 75),
        ({"ExitCode": 255}, 255),
        ({"ExitCode": 0}, 0),
        ({"ExitCode": 0, "Running": True}, None),
        ({"ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"}, None),
    ],
)
def test_exit_codes_are_those_of_the_process_driver(told: dict[str, Any], code: int | None) -> None:
    """Negative for a signal, None while there is none."""
    assert State.of({**TOLD, **told}).exit_code == code
