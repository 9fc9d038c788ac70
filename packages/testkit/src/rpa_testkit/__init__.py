"""Break the system on purpose and prove that nothing was lost.

Rooms, from the ground up:

    waits, programs, guardian, newdata, ports
                  polling; PostgreSQL's programs and the account they run under; what ties a server's life to its owners
    postgres, databases
                  EmbeddedPostgres: a real, durable server on a loopback port; a database per test
    prefect_server, tethered
                  PrefectServer: a real one, where the package is installed; programs that end with their owner
    armed, processes, worker
                  worker processes with logs, signals and a sure end; checkpoints that kill them at a named point
    proxy         the edges between nodes: a TCP proxy that holds back, slows down, breaks
    probe         the flow of scenarios, whose effects nothing would refuse twice
    warden        takes faults back and ends what is left when the tester is gone
    history       what happened in a run, append-only; all that is read afterwards
    scenario      what runs, what breaks, what must hold, as data; compiled with a seed to a schedule
    drivers       where it runs: processes, containers
    faults        what can break, each a lease: inject, verify, hold, heal, verify healed
    checkers      pass, fail or unknown, from a history alone
    runner        one run, from an empty folder to a judgement
    reports       one model, four forms; trends over runs
    shrink        a failing schedule made small
    planted       known defects of the engine, to see that they are found
    suite         ContainerTestSuite, TestValidator, AutomatedTestFramework, TestDataManager
    cli, plugin   the command, and pytest's plugin

Crashes: an owner that dies by SIGKILL leaves a server behind for as long as the kernel needs to close its
file descriptors; the guardian then stops the server and removes its data. Nothing is written outside the
temporary directory unless a directory is given.

Importing this package loads nothing but itself: pytest imports it at every start, and so does every container that runs
the probe. Each name below is imported from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpa_testkit.scenario.model import Dependency, Scenario, Service, SteadyState, Topology, Workload
    from rpa_testkit.scenario.plan import Fault, FlipFlop, Mix, Once, Together
    from rpa_testkit.suite.data import DataScenario, Loaded, TestDataManager
    from rpa_testkit.suite.framework import AutomatedTestFramework
    from rpa_testkit.suite.results import (
        ErrorHandlingValidation,
        FaultToleranceResults,
        Minima,
        PerformanceMetrics,
        PerformanceResults,
        PerformanceValidation,
        SecurityResults,
        TestEnvironment,
        TestReport,
        TestResults,
        TestSuite,
        ValidationResult,
    )
    from rpa_testkit.suite.tests import ContainerTestSuite
    from rpa_testkit.suite.validator import TestValidator

__all__ = [
    "AutomatedTestFramework",
    "ContainerTestSuite",
    "DataScenario",
    "Dependency",
    "ErrorHandlingValidation",
    "Fault",
    "FaultToleranceResults",
    "FlipFlop",
    "Loaded",
    "Minima",
    "Mix",
    "Once",
    "PerformanceMetrics",
    "PerformanceResults",
    "PerformanceValidation",
    "Scenario",
    "SecurityResults",
    "Service",
    "SteadyState",
    "TestDataManager",
    "TestEnvironment",
    "TestReport",
    "TestResults",
    "TestSuite",
    "TestValidator",
    "Together",
    "Topology",
    "ValidationResult",
    "Workload",
]
_HOMES = {
    **dict.fromkeys(("Dependency", "Scenario", "Service", "SteadyState", "Topology", "Workload"), "scenario.model"),
    **dict.fromkeys(("Fault", "FlipFlop", "Mix", "Once", "Together"), "scenario.plan"),
    "AutomatedTestFramework": "suite.framework",
    "ContainerTestSuite": "suite.tests",
    "DataScenario": "suite.data",
    "Loaded": "suite.data",
    "TestDataManager": "suite.data",
    "TestValidator": "suite.validator",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'suite.results')}"), name)
    globals()[name] = value  # the next use costs a plain lookup
    return value


def __dir__() -> list[str]:
    return __all__
