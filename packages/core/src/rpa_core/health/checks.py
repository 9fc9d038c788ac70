"""Ready-made checks. Each has a timeout of its own, below the one that the monitor gives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rpa_core.config.models import ServiceDependency
from rpa_core.errors import RpaError
from rpa_core.health.model import Check, Finding, Scope
from rpa_core.services.diagnosis import Diagnosis
from rpa_core.services.endpoint import probe_service

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool


def database_check(
    name: str,
    pool: ConnectionPool[psycopg.Connection[Any]],
    *,
    query: str = "SELECT 1",
    timeout_s: float = 2.0,
    required: bool = True,
    scope: Scope = Scope.READY,
) -> Check:
    """Ask a database its health query over a pooled connection; the answer's time is what is observed."""

    def look() -> Finding:
        import psycopg
        from psycopg_pool import PoolTimeout

        from rpa_core.store.connect import classify

        began = time.perf_counter()
        try:
            with pool.connection(timeout=timeout_s * 0.8) as connection:
                connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{int(timeout_s * 800)}ms",))
                connection.execute(query.encode())
        except PoolTimeout:
            return Finding(status="unhealthy", message=f"no connection within {timeout_s * 0.8:g} s")
        except psycopg.Error as error:
            return Finding(status="unhealthy", message=str(classify(error)))
        except RpaError as error:  # the pool did not even try
            return Finding(status="unhealthy", message=str(error))
        taken_ms = round((time.perf_counter() - began) * 1000, 1)
        return Finding(status="healthy", message=f"answered in {taken_ms:g} ms", observed=taken_ms, unit="ms")

    return Check(
        name=f"{name}:connection",
        run=look,
        what=f"database {name}: its health query over a pooled connection",
        advice=(
            f"see that PostgreSQL of {name} runs and is reachable from here, and that its connection slots are not "
            "used up; work resumes by itself when it answers"
        ),
        scope=scope,
        timeout_s=timeout_s,
        required=required,
        kind="datastore",
    )


def service_check(
    service: ServiceDependency, *, probe: Callable[[ServiceDependency], Diagnosis | None] = probe_service
) -> Check:
    """Look at a service that the container was configured with.

    A start waits for a required one. Afterwards its absence is a warning: records live in the databases, and those
    decide readiness.
    """

    def look() -> Finding:
        began = time.perf_counter()
        found = probe(service)
        if found is not None:
            return Finding(status="unhealthy", message=found.text)
        taken_ms = round((time.perf_counter() - began) * 1000, 1)
        return Finding(status="healthy", message=f"answered in {taken_ms:g} ms", observed=taken_ms, unit="ms")

    return Check(
        name=f"{service.service_name}:answer",
        run=look,
        what=f"service {service.service_name}: its health endpoint",
        advice="see that it runs and is reachable from here; work goes on meanwhile",
        timeout_s=service.timeout + 1.0,
        required=False,
    )


def backlog_check(flow: str, depth: Callable[[], int], high_water: int) -> Check:
    """Warn while more records wait than intake may let in; a full queue is slow, not broken."""

    def look() -> Finding:
        waiting = depth()
        status = "degraded" if waiting >= high_water else "healthy"
        return Finding(
            status=status,  # type: ignore[arg-type]  # one of two literals
            message=f"{waiting} records wait; intake stops at {high_water}",
            observed=waiting,
            unit="records",
        )

    return Check(
        name=f"{flow}:backlog",
        run=look,
        what=f"how many records of flow {flow} wait",
        advice=f"start more workers for {flow}, or see why they are slow",
        required=False,
        dependency=False,
    )
