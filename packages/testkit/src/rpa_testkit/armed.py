"""Checkpoints that kill, stop or block the process at a named point, the nth time it gets there.

Armed by the environment, so that a worker process needs no code of the test:
`RPA_TESTKIT_CHECKPOINT="results-written:2:kill"`, several separated by commas.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from rpa_core.checkpoints import Checkpoints, Point

VARIABLE = "RPA_TESTKIT_CHECKPOINT"


class Action(StrEnum):
    """What happens at the point."""

    KILL = "kill"
    """SIGKILL: no handler, no flush, no rollback is sent."""
    STOP = "stop"
    """SIGSTOP of the whole process until somebody sends SIGCONT: a worker that sleeps past its lease."""
    BLOCK = "block"
    """Only the thread that got here waits for ever; the others go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Do `action` the `nth` time (from 1) that `point` is reached."""

    point: Point
    nth: int
    action: Action

    def __str__(self) -> str:
        return f"{self.point}:{self.nth}:{self.action}"


def parse(text: str) -> tuple[Arm, ...]:
    """Read `point:nth:action,...`; ValueError names what is wrong and what there is."""
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> Arm:
    try:
        point, nth, action = text.split(":")
        arm = Arm(point=Point(point), nth=int(nth), action=Action(action))
    except ValueError:
        points, actions = "|".join(Point), "|".join(Action)
        raise ValueError(f"{VARIABLE}: {text!r} is not point:nth:action with {points} and {actions}") from None
    if arm.nth < 1:
        raise ValueError(f"{VARIABLE}: {text!r} counts from 1")
    return arm


class ArmedCheckpoints(Checkpoints):
    """Counts how often each point is reached and does what is armed; says so on stderr before it does."""

    def __init__(self, arms: tuple[Arm, ...]) -> None:
        self._arms = arms
        self._reached: Counter[Point] = Counter()
        self._lock = threading.Lock()  # points are reached from several threads

    def reach(self, point: Point) -> None:
        """Called by the worker."""
        with self._lock:
            self._reached[point] += 1
            nth = self._reached[point]
        for arm in self._arms:
            if arm.point == point and arm.nth == nth:
                self._do(arm)

    def _do(self, arm: Arm) -> None:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{reached_line(arm)}\n".encode())
        match arm.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.BLOCK:
                threading.Event().wait()


def reached_line(arm: Arm) -> str:
    """The line in the worker's log that says that `arm` has gone off."""
    return f"rpa-testkit: reached {arm}"
