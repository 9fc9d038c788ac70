"""Record processing on PostgreSQL: each record's outcome is committed exactly once.

The promise: each record's outcome is committed exactly once in your PostgreSQL database. A handler may run more than
once; effects outside that database get an idempotency key (`FlowContext.idempotency_key`).

    from rpa_core import Done, Flow, SetAside

    def handle(record, context):
        if "answer" not in record.payload:
            return SetAside(reasons=("no answer",))
        return Done({"answer": record.payload["answer"] * 2})

    FLOW = Flow(name="double", handle=handle)

`rpa run my_package:FLOW` runs it; `enqueue` puts records in, on a transaction of your own if you like.

Importing this package loads nothing but itself: each name below is imported from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.config.models import ContainerConfig
    from rpa_core.errors import RpaError, TransientError
    from rpa_core.health.model import HealthStatus
    from rpa_core.health.monitor import HealthMonitor
    from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
    from rpa_core.processing.outcome import Done, Emit, Retry, SetAside
    from rpa_core.resilience.breaker import BreakerPolicy, CircuitBreaker, CircuitOpen
    from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryAction
    from rpa_core.resilience.retry import RetryPolicy
    from rpa_core.runtime.run import run_flow
    from rpa_core.services.orchestrator import ServiceOrchestrator
    from rpa_core.services.validator import ConfigurationValidator
    from rpa_core.store.database import Database
    from rpa_core.store.intake import NewRecord, enqueue

    __version__: str

__all__ = [
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitOpen",
    "ConfigurationValidator",
    "ContainerConfig",
    "ContainerConfigManager",
    "Database",
    "Done",
    "Emit",
    "ErrorRecoveryManager",
    "Flow",
    "FlowContext",
    "HealthMonitor",
    "HealthStatus",
    "NewRecord",
    "OpenContext",
    "Record",
    "RecoveryAction",
    "Retry",
    "RetryPolicy",
    "RpaError",
    "ServiceOrchestrator",
    "SetAside",
    "TransientError",
    "__version__",
    "enqueue",
    "run_flow",
]


def _homes() -> dict[str, str]:
    return {
        "BreakerPolicy": "resilience.breaker",
        "CircuitBreaker": "resilience.breaker",
        "CircuitOpen": "resilience.breaker",
        "ConfigurationValidator": "services.validator",
        "ContainerConfig": "config.models",
        "ContainerConfigManager": "config.manager",
        "Database": "store.database",
        "Done": "processing.outcome",
        "Emit": "processing.outcome",
        "ErrorRecoveryManager": "resilience.recovery",
        "Flow": "processing.flow",
        "FlowContext": "processing.flow",
        "HealthMonitor": "health.monitor",
        "HealthStatus": "health.model",
        "NewRecord": "store.intake",
        "OpenContext": "processing.flow",
        "Record": "processing.flow",
        "RecoveryAction": "resilience.recovery",
        "Retry": "processing.outcome",
        "RetryPolicy": "resilience.retry",
        "RpaError": "errors",
        "ServiceOrchestrator": "services.orchestrator",
        "SetAside": "processing.outcome",
        "TransientError": "errors",
        "enqueue": "store.intake",
        "run_flow": "runtime.run",
    }


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("rpa_core.version").VERSION
    home = _homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next use costs a plain lookup
    return value


def __dir__() -> list[str]:
    return __all__
