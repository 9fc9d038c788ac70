"""One run of one scenario, from an empty folder to a judgement."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rpa_testkit.checkers.judge import judge
from rpa_testkit.checkers.stored import to_json
from rpa_testkit.checkers.verdict import Judgement
from rpa_testkit.drivers.protocol import Driver, System
from rpa_testkit.drivers.settings import lease_ttl_s
from rpa_testkit.history.entries import Header, Kind, Phase
from rpa_testkit.history.reader import HISTORY, SCHEDULE, VERDICT, History
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.runner import spools
from rpa_testkit.runner.alerts import AlertWatch
from rpa_testkit.runner.errors import NotStartedError
from rpa_testkit.runner.injector import Injector
from rpa_testkit.runner.lives import lives_of
from rpa_testkit.runner.observe import connections, observe
from rpa_testkit.runner.reports import observe_reports
from rpa_testkit.runner.sampler import Sampler
from rpa_testkit.runner.workload import Producers
from rpa_testkit.scenario.model import ALERTMANAGER, POSTGRES, PREFECT, Scenario
from rpa_testkit.scenario.plan import Event, draws_of
from rpa_testkit.scenario.schedule import Schedule, compile_schedule
from rpa_testkit.waits import WaitTimeoutError, until
from rpa_testkit.warden.client import Warden

_END_S = 40.0
_READY_S = 60.0
_DEPENDENCY_S = 120.0  # Prefect's first start makes its database
_DELIVER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run: its folder, what was scheduled, and the judgement of its history."""

    folder: Path
    schedule: Schedule
    history: History
    judgement: Judgement


def run(
    scenario: Scenario,
    driver: Driver,
    *,
    seed: int,
    reports: Path,
    warden: Warden,
    schedule: Schedule | None = None,
    spec: str = "",
    on_event: Callable[[Event, Phase], object] = lambda event, phase: None,
    on_mark: Callable[[str], object] = lambda what: None,
) -> Run:
    """Run `scenario` on `driver` and judge it. `schedule` is run instead of the one that `seed` makes.

    The run's folder is made in `reports`. Everything that was started is gone when this returns or raises.
    """
    schedule = schedule or compile_schedule(scenario, seed)
    run_id = f"{scenario.name}-{driver.name}-{seed}-{datetime.now(UTC):%m%d%H%M%S}{secrets.token_hex(2)}"
    folder = reports / run_id
    folder.mkdir(parents=True)
    (folder / SCHEDULE).write_bytes(schedule.to_bytes())
    history = HistoryWriter(folder / HISTORY, _header(scenario, driver, schedule, run_id, folder, spec))
    warden.adopt(run_id)
    end = "interrupted"  # a history without `ended` is unknown to every checker
    try:
        _Running(scenario, driver, schedule, folder, run_id, history, warden, on_event, on_mark).go()
        end = "ended"
    finally:
        left = warden.finish(run_id)
        history.add("runner", Kind.OBSERVE, "processes", None, list(left))
        history.add("runner", Kind.MARK, end)
        history.close()
    written = History.open(folder)
    judgement = judge(written, scenario.checkers)
    (folder / VERDICT).write_bytes(to_json(judgement))
    return Run(folder=folder, schedule=schedule, history=written, judgement=judgement)


class _Running:
    """The run itself; each step is written into the history before the next begins."""

    def __init__(
        self,
        scenario: Scenario,
        driver: Driver,
        schedule: Schedule,
        folder: Path,
        run_id: str,
        history: HistoryWriter,
        warden: Warden,
        on_event: Callable[[Event, Phase], object],
        on_mark: Callable[[str], object],
    ) -> None:
        self._scenario = scenario
        self._driver = driver
        self._schedule = schedule
        self._folder = folder
        self._run_id = run_id
        self._history = history
        self._warden = warden
        self._on_event = on_event
        self._on_mark = on_mark

    def go(self) -> None:
        scenario = self._scenario
        # What should come stands there before anything else: a fault that never came is noticed.
        scheduled = [[event.id, event.kind] for event in self._schedule.events]
        self._history.add("runner", Kind.OBSERVE, "schedule", None, scheduled)
        with ExitStack() as stack:
            system = stack.enter_context(
                self._driver.start(
                    scenario.topology,
                    self._folder,
                    run_id=self._run_id,
                    seed=self._schedule.seed,
                    warden=self._warden,
                )
            )
            for name, why in system.stand_ins.items():
                self._history.add("runner", Kind.OBSERVE, "stand-in", name, why)
            self._wait_ready(system)
            if ALERTMANAGER in system.nodes and ALERTMANAGER not in system.stand_ins:
                stack.callback(AlertWatch(system.url(ALERTMANAGER), self._history).stop)
            self._mark("begun")
            injector = Injector(
                self._schedule,
                driver=self._driver,
                system=system,
                warden=self._warden,
                history=self._history,
                run_id=self._run_id,
                enqueued=lambda: producers.enqueued,
                on_event=self._on_event,
            )
            workload = scenario.workload
            flows = (workload.flow, *workload.also_drained)
            sampler = Sampler(system, self._history, injector.concerned, flows)
            stack.callback(sampler.stop)
            stack.callback(injector.stop)
            producers = Producers(
                scenario.workload,
                system.dsn,
                self._history,
                draws_of(self._schedule.seed, scenario.name),
                injector.remaining_s,
                injector.to_come,
            )
            stack.callback(producers.stop)
            injector.start()
            injector.finish(scenario.budget_s)
            self._mark("healed")
            if not self._enqueued(producers):
                self._mark("workload-cut")
                producers.stop()
            self._mark("workload-done")
            self._mark("drained" if self._drain(system, sampler) else "not-drained")
            sampler.stop()  # nobody starts a worker again from here on
            observe(system.dsn, scenario.workload.flow, self._history, effects=scenario.workload.flow == "probe")
            self._await_deliveries(system)
            self._end_workers(system)
            self._count_connections(system)
            self._look_at_deliveries(system)

    def _mark(self, what: str) -> None:
        self._history.add("runner", Kind.MARK, what)
        self._on_mark(what)

    def _wait_ready(self, system: System) -> None:
        """A fault of a worker that was never up would prove nothing. NotStartedError with the log of one that ended."""
        workers = [system.nodes[name] for name in self._scenario.topology.workers]

        def all_ready() -> bool:
            for node in workers:
                if not node.running:
                    raise NotStartedError(f"{node.name} ended with {node.exit_code}", node.log_text())
            return all(node.ready() for node in workers)

        try:
            until(all_ready, _READY_S, "all workers to be ready")
        except WaitTimeoutError as error:
            late = next(node for node in workers if not node.ready())
            raise NotStartedError(f"{late.name} was not ready within {_READY_S:g} s", late.log_text()) from error
        for dependency in self._scenario.topology.dependencies:
            node = system.nodes[dependency.name]
            if not dependency.absent:
                try:
                    until(node.ready, _DEPENDENCY_S, f"{node.name} to answer", every_s=0.1)
                except WaitTimeoutError as error:
                    raise NotStartedError(f"{error}", node.log_text()) from error

    def _enqueued(self, producers: Producers) -> bool:
        try:
            until(lambda: producers.done, self._scenario.budget_s, "the producers to finish", every_s=0.05)
        except WaitTimeoutError:
            return False
        producers.finish()
        return True

    def _drain(self, system: System, sampler: Sampler) -> bool:
        """Wait until no record is without its outcome; the checker judges how long it took."""

        def drained() -> bool:
            last = sampler.last
            return last is not None and last.waiting == 0 and last.leased == 0

        sampler.last = None
        try:
            until(drained, 2 * self._scenario.steady_state.drain_s, "the drain", every_s=0.05)
        except WaitTimeoutError:
            return False
        return True

    def _end_workers(self, system: System) -> None:
        for name in self._scenario.topology.workers:
            if system.nodes[name].running:
                system.nodes[name].terminate()
        for name in self._scenario.topology.workers:
            node = system.nodes[name]
            try:
                code: int | None = node.wait_exit(_END_S)
            except Exception:  # noqa: BLE001 - a driver's own timeout; that it did not end is what counts
                code = None
            self._history.add("runner", Kind.NODE, "exited", name, {"code": code, "expected": code == 0})

    def _await_deliveries(self, system: System) -> None:
        """What others have to be told is told while there are workers to tell it; the checker judges what is left."""
        live = len(self._scenario.topology.workers)
        with suppress(WaitTimeoutError):
            until(lambda: spools.drained(system.spool, live), _DELIVER_S, "the spools to drain", every_s=0.5)

    def _look_at_deliveries(self, system: System) -> None:
        lives = [
            life for name in self._scenario.topology.workers for life in lives_of(name, system.nodes[name].log_text())
        ]
        for life in lives:
            value = {"node": life.node, "drained": life.drained}
            self._history.add("observer", Kind.OBSERVE, "life", life.incarnation, value)
        if PREFECT in system.nodes and PREFECT not in system.stand_ins:
            observe_reports(system.url(PREFECT), lives, self._history)
        spools.observe_spools(system.spool, self._history)

    def _count_connections(self, system: System) -> None:
        count = 0

        def none() -> bool:
            nonlocal count
            count = connections(system.dsn)
            return count == 0

        with suppress(WaitTimeoutError):
            until(none, 10.0, "the workers' sessions to end", every_s=0.1)
        self._history.add("runner", Kind.OBSERVE, "connections", None, {"count": count})


def _header(scenario: Scenario, driver: Driver, schedule: Schedule, run_id: str, folder: Path, spec: str) -> Header:
    return Header(
        run_id=run_id,
        scenario=scenario.name,
        driver=driver.name,
        seed=schedule.seed,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        checkers=scenario.checkers,
        workload=asdict(scenario.workload),
        steady_state=asdict(scenario.steady_state),
        topology={
            **asdict(scenario.topology),
            "nodes": [*scenario.topology.workers, POSTGRES],
            "scheduled": len(schedule.events),
            "demanded_alerts": list(scenario.alerts),
            "spools": True,
            "lease_ttl_s": max(lease_ttl_s(service) for service in scenario.topology.services),
        },
        versions={name: version(name) for name in ("rpa-core", "rpa-testkit")} | {"python": platform.python_version()},
        machine=_machine(),
        replay=f"rpa-testkit replay {folder}",
        spec=spec or scenario.name,
    )


def _machine() -> dict[str, Any]:
    import psutil

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
    }
