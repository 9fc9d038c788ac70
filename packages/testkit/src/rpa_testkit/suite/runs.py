"""Carries scenarios out, each into a folder of its own, and starts systems without a scenario."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rpa_testkit.drivers.choose import choose
from rpa_testkit.drivers.protocol import Driver, System
from rpa_testkit.faults.catalogue import KINDS
from rpa_testkit.runner.run import Run, run
from rpa_testkit.scenario.model import POSTGRES, Scenario, Topology
from rpa_testkit.scenario.schedule import Schedule, compile_schedule
from rpa_testkit.warden.client import Warden

if TYPE_CHECKING:
    from rpa_testkit.postgres import EmbeddedPostgres


class Runs:
    """Runs on one warden; `done` are those that have ended. A warden that is not given is started, and closed again.

    server  a PostgreSQL that scenarios without faults of PostgreSQL share on the process driver: a database for each.
    """

    def __init__(
        self,
        *,
        reports: Path,
        warden: Warden | None = None,
        server: Callable[[], EmbeddedPostgres | None] = lambda: None,
    ) -> None:
        self.reports = reports
        self.done: list[Run] = []
        self._server = server
        self._given = warden
        self._own: Warden | None = None
        self._home: Path | None = None

    @property
    def warden(self) -> Warden:
        """The one that is given, or one of its own."""
        if self._given is not None:
            return self._given
        if self._own is None:
            self._home = Path(tempfile.mkdtemp(prefix="rpa-testkit-warden-"))
            self._own = Warden.start(self._home)
        return self._own

    def run(
        self,
        scenario: Scenario,
        driver: str | Driver = "process",
        *,
        seed: int,
        spec: str = "",
        schedule: Schedule | None = None,
    ) -> Run:
        """Run it and keep what came of it."""
        schedule = schedule or compile_schedule(scenario, seed)
        self.reports.mkdir(parents=True, exist_ok=True)
        done = run(
            scenario,
            self.driver(driver, schedule),
            seed=schedule.seed,
            reports=self.reports,
            warden=self.warden,
            schedule=schedule,
            spec=spec,
        )
        self.done.append(done)
        return done

    def driver(self, driver: str | Driver, schedule: Schedule | None = None) -> Driver:
        """By name; on the shared server where nothing in `schedule` would break it."""
        if not isinstance(driver, str):
            return driver
        shared = None if driver != "process" or (schedule and strikes_postgres(schedule)) else self._server()
        if shared is None:
            return choose(driver)
        from rpa_testkit.drivers.process.driver import ProcessDriver

        return ProcessDriver(server=shared)

    @contextmanager
    def start(
        self, topology: Topology, driver: str | Driver = "process", *, seed: int, name: str = "stack"
    ) -> Iterator[tuple[System, str]]:
        """A system without a scenario, and its run's id; all of it is gone at the end."""
        made = self.driver(driver)
        run_id = f"{name}-{made.name}-{seed}-{secrets.token_hex(4)}"
        folder = self.reports / run_id
        folder.mkdir(parents=True)
        self.warden.adopt(run_id)
        try:
            with made.start(topology, folder, run_id=run_id, seed=seed, warden=self.warden) as system:
                yield system, run_id
        finally:
            self.warden.finish(run_id)

    def close(self) -> None:
        """End the warden, if it is its own: what still carries a mark of these runs goes with it."""
        if self._own is not None:
            self._own.close()
            self._own = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def strikes_postgres(schedule: Schedule) -> bool:
    """Whether a fault of the schedule would be felt by whoever shares the server."""
    kinds = (KINDS.get(event.kind) for event in schedule.events)
    struck = any(kind is not None and kind.strikes == POSTGRES for kind in kinds)
    return struck or any(event.target == POSTGRES for event in schedule.events)


def with_images(topology: Topology, images: Mapping[str, str]) -> Topology:
    """The same with other images, by the services' names; LookupError for a name that none has."""
    unknown = set(images) - {service.name for service in topology.services}
    if unknown:
        names = ", ".join(service.name for service in topology.services)
        raise LookupError(f"no service is called {', '.join(sorted(unknown))}; there are {names}")
    services = tuple(replace(service, image=images.get(service.name, service.image)) for service in topology.services)
    return replace(topology, services=services)
