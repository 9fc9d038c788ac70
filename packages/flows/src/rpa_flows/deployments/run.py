"""One run of a deployment: what Prefect's engine calls, and what it is told about the end."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Completed

from rpa_flows.deployments import child
from rpa_flows.deployments.lines import Said

COMMAND = "RPA_COMMAND"
"""The program that runs flows, where it is not this Python's own `rpa`: rpa may live in another environment."""

_GRACE_S = 28.0  # Prefect kills a cancelled run after 30 seconds
_FOR_GOOD = frozenset({64, 65, 77, 78})  # trying again would end in the same way
_WORDS = {
    64: "it was called in a wrong way",
    65: "its input cannot be read",
    69: "a dependency is away",
    75: "it could not go on for now",
    77: "the database refuses it",
    78: "its configuration is wrong",
}


class WorkerFailed(Exception):
    """The worker ended with an error; Prefect shows the text in the run's state."""


def run_worker(
    name: str, *, until_empty: bool, max_seconds: float | None, environ: Mapping[str, str] | None = None
) -> Any:
    """Run a worker of the flow `name` to its end; a Completed state.

    Raises WorkerFailed, which Prefect tries again as often as the flow allows, unless that would be in vain.
    """
    given = os.environ if environ is None else environ
    logger = get_run_logger()
    said = Said()

    def take(text: str) -> None:
        line = said.hear(text)
        if line is not None:
            logger.log(line.level, "%s", line.text)

    code = child.run(
        command(name, given, until_empty=until_empty),
        environ=child.environment(given),
        take=take,
        most_s=max_seconds,
        grace_s=_GRACE_S,
    )
    _publish(name, said.counts, logger)
    if code == 0:
        return Completed(message=_summary(said.counts))
    if code in _FOR_GOOD:
        _try_no_more(logger)
    raise WorkerFailed(f"{name} ended with {code} ({_words(code)}): {said.cause()}")


def command(name: str, environ: Mapping[str, str], *, until_empty: bool) -> Sequence[str]:
    """What the child process is: `rpa run NAME`, of this Python unless RPA_COMMAND names another program."""
    program = shlex.split(environ.get(COMMAND, "")) or [sys.executable, "-m", "rpa_core.cli.main"]
    return [*program, "run", name, *(["--until-empty"] if until_empty else [])]


def _words(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else _WORDS.get(code, "an error")


def _summary(counts: Mapping[str, int]) -> str:
    said = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in counts.items())
    return said or "Nothing was left to do"


def _publish(name: str, counts: Mapping[str, int], logger: logging.LoggerAdapter[Any] | logging.Logger) -> None:
    """The counts as an artifact. That Prefect cannot keep one is no reason to fail a run whose records are done."""
    if not counts:
        return
    try:
        create_table_artifact(
            key=f"{''.join(letter if letter.isalnum() else '-' for letter in name)}-outcomes",
            table=[{"outcome": outcome.replace("_", " "), "records": number} for outcome, number in counts.items()],
            description=f"What this run of {name} did, by outcome.",
        )
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
        logger.warning("the summary could not be stored: %s", error)


def _try_no_more(logger: logging.LoggerAdapter[Any] | logging.Logger) -> None:
    """Take the retries back from this run: the server decides, when it is told of the failure."""
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(flow_run.get_id()))
            policy = run.empirical_policy.model_copy(update={"retries": 0})
            client.update_flow_run(run.id, empirical_policy=policy)
    except Exception as error:  # noqa: BLE001 - it fails anyway; then it is tried again in vain
        logger.warning("Prefect will try again, in vain: %s", error)
