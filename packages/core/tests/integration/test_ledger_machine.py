"""The ledger under every interleaving that a machine can think of, and the machine itself under planted defects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from rpa_testkit.databases import Databases

from .ledger_checks import InvariantBrokenError, prepare
from .ledger_machine import Engine, LedgerMachine
from .ledger_mutants import AttemptsAsToken, CutByMaxId, NobodyLooks, NoFence, NoLateCommits, ResultsBesideTheTransaction

_NO_CHECKS = list(HealthCheck)
# CI runs the same examples every time; HYPOTHESIS_PROFILE=deep looks for new ones.
_SIZES: dict[str, dict[str, Any]] = {
    "ci": {"max_examples": 40, "stateful_step_count": 40, "derandomize": True, "database": None},
    "deep": {"max_examples": 2000, "stateful_step_count": 80, "print_blob": True},
}
# Enough to find each mutant several times over; a find is not made smaller, that costs more than it tells.
_HUNT: dict[str, Any] = {**_SIZES["ci"], "max_examples": 200, "phases": [Phase.generate], "report_multiple_bugs": False}
_CAUGHT = (InvariantBrokenError, psycopg.errors.IntegrityError)


@pytest.fixture(scope="module")
def machine_dsn(databases: Databases) -> Iterator[str]:
    """One database for all examples: the machine empties it itself."""
    with databases.migrated() as database:
        prepare(database.dsn)
        yield database.dsn


def _run(tested: type[LedgerMachine], **size: Any) -> None:
    with tested.engine.planted():
        run_state_machine_as_test(tested, settings=settings(deadline=None, suppress_health_check=_NO_CHECKS, **size))


def machine(dsn: str, engine: Engine, base: type[LedgerMachine] = LedgerMachine) -> type[LedgerMachine]:
    """The machine over a database and an engine."""
    return type(base.__name__, (base,), {"dsn": dsn, "engine": engine})


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R5.4", "R5.5", "R8.2", "R8.7")
def test_every_record_is_in_exactly_one_place_after_every_step(machine_dsn: str) -> None:
    """Whatever is claimed, completed, killed, reclaimed, given back or rotated: one place, one outcome, one effect."""
    size = _SIZES["deep" if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else "ci"]
    _run(machine(machine_dsn, Engine()), **size)


@pytest.mark.parametrize(
    ("mutant", "said"),
    [
        pytest.param(NoFence(), "completed: the ledger says", id="no-fence"),
        pytest.param(NobodyLooks(), "completed: the ledger says", id="fence-ignored"),
        pytest.param(AttemptsAsToken(), "completed: the ledger says", id="attempts-as-token"),
        pytest.param(ResultsBesideTheTransaction(), "is in 1 chunks, 1 results", id="results-outside-the-transaction"),
        pytest.param(CutByMaxId(), "is in 0 chunks, 0 results", id="cut-by-max-id"),
    ],
)
@pytest.mark.requirement("R3.1", "R5.4", "R8.2")
def test_the_machine_finds_a_planted_defect(machine_dsn: str, mutant: Engine, said: str) -> None:
    """A store without its fence, with a counter for a token, with loose results or a cutter by ids does not pass."""
    with pytest.raises(_CAUGHT) as caught:
        _run(machine(machine_dsn, mutant), **_HUNT)
    print(repr(caught.value))


@pytest.mark.requirement("R3.1")
def test_only_the_late_commit_finds_the_cutter_by_ids(machine_dsn: str) -> None:
    """Without late commits that cutter passes: it is not found by an accident of the machine."""
    _run(machine(machine_dsn, CutByMaxId(), NoLateCommits), **{**_SIZES["ci"], "max_examples": 10})
