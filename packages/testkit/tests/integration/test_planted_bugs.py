"""Known defects of the engine, planted into real workers: the scenarios must find each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.drivers.process.driver import ProcessDriver
from rpa_testkit.planted import IN_PRODUCERS, IN_WORKERS, planting
from rpa_testkit.runner.run import run
from rpa_testkit.scenario.library import SCENARIOS
from rpa_testkit.scenario.model import Scenario
from rpa_testkit.warden.client import Warden

# Defect -> where it shows, who may say so, and three seeds, the quickest first.
# Any other checker's failure alone would be an accident.
_FOUND_BY = {
    "no-fence": ("late-answers", {"leases"}, (1, 2, 3)),
    "nobody-looks": ("zombies", {"no-duplicates", "legal-states", "leases"}, (3, 1, 2)),
    "uncounted-takeover": ("late-answers", {"leases"}, (3, 1, 2)),
    "results-beside-the-transaction": ("commits", {"no-duplicates", "legal-states", "leases"}, (3, 2, 1)),
    "cut-by-max-id": ("commits", {"no-lost"}, (1, 2, 3)),
}


def test_every_defect_has_its_scenario() -> None:
    """A defect that is added is looked for."""
    assert set(_FOUND_BY) == {*IN_WORKERS, *IN_PRODUCERS}


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("defect", sorted(_FOUND_BY))
def test_a_planted_defect_is_found_within_three_seeds(defect: str, open_folder: Path, warden: Warden) -> None:
    """And by the checker whose business it is."""
    name, finders, seeds = _FOUND_BY[defect]
    said = []
    for seed in seeds:
        with planting(SCENARIOS[name], defect) as broken:
            done = run(broken, ProcessDriver(), seed=seed, reports=open_folder, warden=warden)
        failed = {verdict.checker for verdict in done.judgement.verdicts if verdict.status is Status.FAIL}
        if failed & finders:
            return
        said.append(f"seed {seed}: {done.judgement.status}, failed: {sorted(failed)}")
    pytest.fail(f"{defect} was not found: {'; '.join(said)}")


@pytest.mark.slow
@pytest.mark.full_proof  # the chaos selection of each change passes these faults, too
@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("name", sorted({scenario for scenario, _, _ in _FOUND_BY.values()}))
def test_without_a_defect_the_same_scenarios_pass(name: str, open_folder: Path, warden: Warden) -> None:
    """What finds the defects finds nothing in the engine as it is."""
    done = run(SCENARIOS[name], ProcessDriver(), seed=1, reports=open_folder, warden=warden)
    assert done.judgement.passed, [verdict for verdict in done.judgement.verdicts if verdict.status is not Status.PASS]


def test_an_unknown_defect_is_named() -> None:
    """The message says which there are."""
    scenario: Scenario = replace(SCENARIOS["quiet"])
    with (
        pytest.raises(ValueError, match="no defect is called 'fence'; there are no-fence"),
        planting(scenario, "fence"),
    ):
        pass
