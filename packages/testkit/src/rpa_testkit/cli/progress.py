"""A line per step and per fault, while a scenario runs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click

from rpa_testkit.history.entries import Phase
from rpa_testkit.scenario.model import Scenario
from rpa_testkit.scenario.plan import Event

_SHOWN = {
    Phase.VERIFIED: "took effect",
    Phase.UNVERIFIED: "NO EFFECT SEEN",
    Phase.UNHEALED: "NOT HEALED",
    Phase.NOT_RUN: "not run here",
}


class Progress:
    """Prints to stdout."""

    def __init__(self, scenario: Scenario, driver: str, seed: int) -> None:
        self._what = (
            f"{scenario.name} on {driver}, seed {seed}: {scenario.workload.records:,} records; {scenario.about}"
        )
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        click.secho(self._what, bold=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def event(self, event: Event, phase: Phase) -> None:
        """Told by the injector."""
        if phase in _SHOWN:
            self._line(f"{event.kind:22} {event.target:22} {_SHOWN[phase]}")

    def mark(self, what: str) -> None:
        """Told by the runner."""
        self._line(what)

    def _line(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._began:7.1f} s  {text}")
