"""The Prefect flows, as attributes: `rpa_flows.deployments.flows.rpa2` is the entrypoint of rpa2's deployment."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from rpa_core.runtime.flows import installed
from rpa_flows.deployments.run import run_worker

RETRIES = 2
RETRY_DELAY_S = 30.0
_DOT = "DOT"  # names of flows are lower case, and may hold dots, at which an import path would be cut

Seconds = Annotated[float, Field(gt=0)]


def attribute(name: str) -> str:
    """What the Prefect flow of an rpa flow is called in this module."""
    return name.replace(".", _DOT)


def entrypoint(name: str) -> str:
    """The import path of the Prefect flow of an rpa flow."""
    return f"{__name__}.{attribute(name)}"


def prefect_flow(name: str, *, retry_delay_s: float = RETRY_DELAY_S) -> Any:
    """The Prefect flow that runs a worker of the rpa flow `name`."""

    def work(until_empty: bool = True, max_seconds: Seconds | None = None) -> Any:
        return run_worker(name, until_empty=until_empty, max_seconds=max_seconds)

    work.__doc__ = f"""Runs a worker of {name}.

        Args:
            until_empty: end when nothing is left to do; otherwise when the run is cancelled, or after max_seconds
            max_seconds: drain after so many seconds
        """
    make = flow(
        name=name,
        description=f"Runs a worker of {name}: records are claimed from PostgreSQL, every outcome is committed once.",
        retries=RETRIES,
        retry_delay_seconds=retry_delay_s,
        validate_parameters=True,
        persist_result=False,
    )
    return make(work)


def __getattr__(name: str) -> Any:
    """Made when asked for: the flows of all installed packages are known by their entry points alone."""
    wanted = name.replace(_DOT, ".")
    if wanted not in installed():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: no flow is called {wanted!r}")
    return prefect_flow(wanted)
