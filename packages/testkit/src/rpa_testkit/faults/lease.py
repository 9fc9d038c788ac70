"""A fault is a lease: inject, verify that it took effect, hold, heal, verify that it is healed.

The warden knows what takes it back before it is injected, and takes it back when the lease runs out or the tester dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rpa_testkit.drivers.protocol import System
from rpa_testkit.scenario.plan import Event
from rpa_testkit.warden.undo import Undo

Seen = Mapping[str, Any]
"""What was observed, for the history: names and plain values."""


class Injection(Protocol):
    """One fault of one target in a running system. Each call may take seconds; each raises if it cannot be done."""

    def undo(self) -> tuple[Undo, ...]:
        """Asked before `inject`: what the warden must do should nobody else. Empty if ending the run undoes it."""
        ...

    def inject(self) -> Seen:
        """Do it."""
        ...

    def verify(self) -> Seen | None:
        """Look whether it took effect, asked again until it did or time is up; None while it has not."""
        ...

    def heal(self) -> Seen:
        """Take it back."""
        ...

    def verify_healed(self) -> Seen | None:
        """Look whether all is as before; None while it is not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """A kind of fault: its name, what it does, what it strikes (`worker`, `postgres`, `edge`, `dependency`).

    `params` names the parameters of its events with the values used where an event gives none.
    """

    name: str
    about: str
    strikes: str
    make: Callable[[System, Event, Mapping[str, float]], Injection]
    params: Mapping[str, float]
    verify_s: float = 5.0
    heal_s: float = 30.0
