"""Break the system on purpose and prove that nothing was lost.

Rooms, from the ground up:

    waits         the only place that polls or sleeps
    programs      PostgreSQL's programs, and the account they run under
    guardian      ties a server's life to its owners: a FIFO that every owner holds open for writing
    postgres      EmbeddedPostgres: a real, durable server on a loopback port
    databases     a migrated template once per server, a database per test
    armed         checkpoints that kill, stop or block a worker at a named point
    processes     worker processes with logs, signals and a sure end
    isolation     what keeps unit tests from the network and from other processes
    suite         ContainerTestSuite, TestValidator, AutomatedTestFramework, TestDataManager
    plugin        the pytest plugin: options, markers, fixtures

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
    "ErrorHandlingValidation",
    "FaultToleranceResults",
    "Loaded",
    "Minima",
    "PerformanceMetrics",
    "PerformanceResults",
    "PerformanceValidation",
    "SecurityResults",
    "TestDataManager",
    "TestEnvironment",
    "TestReport",
    "TestResults",
    "TestSuite",
    "TestValidator",
    "ValidationResult",
]
_HOMES = {
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
