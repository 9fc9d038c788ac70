"""The ledger under every interleaving that a machine can think of, and the machine itself under planted defects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from psycopg.errors import UniqueViolation

from rpa_testkit.databases import Databases

from .ledger_checks import InvariantBrokenError, prepare
from .ledger_machine import LedgerMachine
from .ledger_mutants import (
    AttemptsAsToken,
    CutByMaxId,
    Hunting,
    NobodyLooks,
    NoFence,
    NoLateCommits,
    ResultsBesideTheTransaction,
)
from .ledger_parts import Engine

_NO_CHECKS = list(HealthCheck)
_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
# The same examples every time, by a seed that comes upon every planted defect soon; deep looks for new ones.
_SEED = 1
_SIZES: dict[str, dict[str, Any]] = {
    "ci": {"max_examples": 70, "stateful_step_count": 40, "database": None},
    "deep": {"max_examples": 2000, "stateful_step_count": 80, "print_blob": True},
}
# Enough to find each mutant several times over; a find is not made smaller, that costs more than it tells.
_HUNT: dict[str, Any] = {
    **_SIZES["ci"],
    "max_examples": 300,
    "stateful_step_count": 25,
    "phases": [Phase.generate],
    "report_multiple_bugs": False,
}

_EITHER = (InvariantBrokenError, UniqueViolation)  # result's primary key is the backstop


@pytest.fixture(scope="module")
def machine_dsn(databases: Databases) -> Iterator[str]:
    """One database for all examples: the machine empties it itself."""
    with databases.migrated() as database:
        prepare(database.dsn)
        yield database.dsn


def _run(tested: type[LedgerMachine], **size: Any) -> None:
    if not _DEEP:
        tested = seed(_SEED)(tested)
    with tested.engine.planted():
        run_state_machine_as_test(tested, settings=settings(deadline=None, suppress_health_check=_NO_CHECKS, **size))


def machine(
    dsn: str, engine: Engine, base: type[LedgerMachine] = Hunting, *, believes: bool = False
) -> type[LedgerMachine]:
    """The machine over a database and an engine."""
    return type(base.__name__, (base,), {"dsn": dsn, "engine": engine, "believes": believes})


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R5.4", "R5.5", "R8.2", "R8.7")
def test_every_record_is_in_exactly_one_place_after_every_step(machine_dsn: str) -> None:
    """Whatever is claimed, completed, killed, reclaimed, given back or rotated: one place, one outcome, one effect."""
    size = _SIZES["deep" if _DEEP else "ci"]
    _run(machine(machine_dsn, Engine(), LedgerMachine), **size)


@pytest.mark.parametrize(
    ("mutant", "error", "said"),
    [
        pytest.param(NoFence(), InvariantBrokenError, "has a result by lease", id="no-fence"),
        pytest.param(NobodyLooks(), _EITHER, "is in|result_", id="fence-ignored"),
        pytest.param(AttemptsAsToken(), InvariantBrokenError, "has a result by lease|settled", id="attempts-as-token"),
        pytest.param(
            ResultsBesideTheTransaction(), InvariantBrokenError, "is in 1 chunks, 1 results", id="results-apart"
        ),
        pytest.param(CutByMaxId(), InvariantBrokenError, "is in 0 chunks, 0 results", id="cut-by-max-id"),
    ],
)
@pytest.mark.requirement("R3.1", "R5.4", "R8.2")
def test_the_machine_finds_a_planted_defect(machine_dsn: str, mutant: Engine, error: Any, said: str) -> None:
    """Without a fence, with a counter for a token, with loose results, with a cutter by ids: the tables show it."""
    with pytest.raises(error, match=said):
        _run(machine(machine_dsn, mutant, believes=True), **_HUNT)


@pytest.mark.parametrize("mutant", [NoFence(), NobodyLooks()], ids=["no-fence", "fence-ignored"])
@pytest.mark.requirement("R3.1", "R5.4")
def test_a_stale_completion_is_told_that_it_is_stale(machine_dsn: str, mutant: Engine) -> None:
    """A mutant that lets a stale claim complete is found by its answer alone, before any record is in two places."""
    with pytest.raises(InvariantBrokenError, match="completed: the ledger says"):
        _run(machine(machine_dsn, mutant), **_HUNT)


@pytest.mark.requirement("R3.1")
def test_only_the_late_commit_finds_the_cutter_by_ids(machine_dsn: str) -> None:
    """Without late commits that cutter passes: it is not found by an accident of the machine."""
    _run(machine(machine_dsn, CutByMaxId(), NoLateCommits), **{**_SIZES["ci"], "max_examples": 10})
