"""What the pytest plugin's chaos fixtures are made of."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.drivers.protocol import Node, System
from rpa_testkit.history.reader import SCHEDULE
from rpa_testkit.runner.run import Run
from rpa_testkit.scenario.library import find
from rpa_testkit.scenario.model import Scenario, Topology
from rpa_testkit.scenario.schedule import Schedule, read_schedule
from rpa_testkit.suite.runs import Runs
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden

if TYPE_CHECKING:
    from rpa_testkit.postgres import EmbeddedPostgres

_READY_S = 60.0
_EVIDENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one test runs with: its node id, the options, and what its marker says.

    reports  this test's own folder, for its runs.
    drivers  those the test may run on; empty: any.
    """

    nodeid: str
    seed: int
    driver: str
    reports: Path
    replay: Path | None = None
    keep: bool = False
    drivers: tuple[str, ...] = ()


def settings_of(item: pytest.Item, reports: Path) -> Settings:
    """From the options and the closest marker `scenario`; the test gets a folder in `reports`, below pytest's root."""
    mark = item.get_closest_marker("scenario")
    option = item.config.option
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", item.name)[:60]
    return Settings(
        nodeid=item.nodeid,
        seed=option.chaos_seed,
        driver=option.chaos_driver,
        reports=item.config.rootpath / reports / f"{name}-{secrets.token_hex(3)}",
        replay=option.chaos_replay,
        keep=option.chaos_keep,
        drivers=tuple(mark.kwargs.get("drivers", ())) if mark else (),
    )


class Chaos:
    """The fixture `chaos`: runs scenarios for one test, whose folders go with it if it passes."""

    def __init__(
        self, settings: Settings, warden: Warden, server: Callable[[], EmbeddedPostgres | None] = lambda: None
    ) -> None:
        self.settings = settings
        self.runs = Runs(reports=settings.reports, warden=warden, server=server)
        self.asked: list[tuple[str, str, int]] = []
        """Scenario, driver and seed of each run that was begun."""

    def run(
        self,
        scenario: str | Scenario,
        *,
        seed: int | None = None,
        driver: str | None = None,
        schedule: Schedule | None = None,
    ) -> Run:
        """Run a scenario (a value, or what `rpa-testkit run` takes) and judge it.

        seed and driver are the test's unless given. Under --chaos-replay the schedule of that run is carried out where
        it is one of this scenario. Skips the test where the driver is not there.
        """
        found = find(scenario) if isinstance(scenario, str) else scenario
        spec = scenario if isinstance(scenario, str) else ""
        on = self.driver(driver, found.drivers)
        schedule = schedule or self._recorded(found)
        seed = schedule.seed if schedule else self.settings.seed if seed is None else seed
        self.asked.append((found.name, on, seed))
        return self.runs.run(found, on, seed=seed, spec=spec, schedule=schedule)

    def replay(self, schedule_file: Path | str, *, scenario: str | Scenario, driver: str = "process") -> Run:
        """Carry out the events of a schedule file (or of a run's folder), in that scenario."""
        return self.run(scenario, driver=driver, schedule=_schedule(Path(schedule_file)))

    @contextmanager
    def stack(self, topology: Topology) -> Iterator[System]:
        """A started system without faults; yields when every worker is ready."""
        on = self.driver(None, ())
        with self.runs.start(topology, on, seed=self.settings.seed) as (system, _):
            workers = [system.nodes[name] for name in topology.workers]
            until(lambda: all(node.ready() for node in workers), _READY_S, "the workers", lambda: _tails(workers))
            yield system

    def driver(self, wanted: str | None, possible: tuple[str, ...]) -> str:
        """The driver to use; the test is skipped where it may not, or cannot, use it. In CI an engine must be there."""
        name = wanted or self.settings.driver
        allowed = [each for each in (self.settings.drivers, possible) if each]
        if any(name not in each for each in allowed):
            pytest.skip(f"not for the driver {name} (--chaos-driver), but for {', '.join(allowed[0])}")
        if name == "docker" and (missing := no_engine()):
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        return name

    def section(self) -> str:
        """For the report of a failed test: verdicts, seeds, and how to do the same again."""
        return "\n".join([*self._told(), *self._commands()])

    def close(self, *, failed: bool) -> None:
        """Remove the runs' folders, unless the test failed or they are to be kept."""
        if failed or self.settings.keep:
            return
        shutil.rmtree(self.settings.reports, ignore_errors=True)
        with suppress(OSError):  # others are still at work beside it, or keep something
            self.settings.reports.parent.rmdir()
            self.settings.reports.parent.parent.rmdir()

    def _recorded(self, scenario: Scenario) -> Schedule | None:
        if self.settings.replay is None:
            return None
        schedule = _schedule(self.settings.replay)
        return schedule if schedule.scenario == scenario.name else None

    def _told(self) -> Iterator[str]:
        for done in self.runs.done:
            header = done.history.header
            yield f"{header.scenario} on {header.driver}, seed {header.seed}: {done.judgement.status}"
            for verdict in done.judgement.verdicts:
                yield f"  {verdict.status:8} {verdict.checker}: {verdict.says}"
                for evidence in verdict.evidence[:_EVIDENCE] if verdict.status is not Status.PASS else ():
                    yield f"           {'' if evidence.t is None else f'{evidence.t:.2f} s: '}{evidence.says}"
            yield f"  its history: {done.folder}"
        for name, driver, seed in self.asked[len(self.runs.done) :]:
            yield f"{name} on {driver}, seed {seed}: did not come to its end"

    def _commands(self) -> Iterator[str]:
        test = shlex.quote(self.settings.nodeid)
        for done in self.runs.done:
            driver, folder = done.history.header.driver, shlex.quote(str(done.folder))
            if done.schedule.events:
                yield f"the same faults again: pytest {test} --chaos-driver {driver} --chaos-replay {folder}"
        for driver, seed in dict.fromkeys((driver, seed) for _, driver, seed in self.asked):
            yield f"from the seed: pytest {test} --chaos-driver {driver} --chaos-seed {seed}"


def no_engine() -> str:
    """Why there is no Docker Engine to use; empty if there is one."""
    from rpa_testkit.drivers.container.engine import Engine
    from rpa_testkit.drivers.container.handle import EngineError

    try:
        Engine.connect("").close()
    except EngineError as error:
        return str(error)
    return ""


def _schedule(path: Path) -> Schedule:
    return read_schedule(path / SCHEDULE if path.is_dir() else path)


def _tails(nodes: list[Node]) -> str:
    return "\n".join(f"--- {node.name}\n{node.log_text()[-2000:]}" for node in nodes)
