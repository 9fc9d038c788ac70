"""What stands behind `invoke dev.*`: prints, answers the exit code, raises ToolError."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

from ci.develop.orchestrator import DevelopmentOrchestrator
from ci.invocation import interruptible


def watch(environment: str = "development", services: Iterable[str] = (), force_polling: bool = False) -> int:
    """Make saved files live in the running containers until Ctrl-C."""
    development = DevelopmentOrchestrator(environment=environment, services=services)
    with interruptible():
        development.setup_hot_reloading(force_polling=force_polling)
    return 0


def debug(service: str, port: int = 5678, index: int = 1, wait: bool = False, environment: str = "development") -> int:
    """Run a service's worker under the debugger until Ctrl-C, and say how to attach."""
    development = DevelopmentOrchestrator(environment=environment)
    with interruptible(), development.provide_debugging_access(service, port=port, index=index, wait=wait) as access:
        print(access.instructions)
        print("\nCtrl-C ends: the worker then starts again without the debugger.", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0
