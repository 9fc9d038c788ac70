"""One scenario of the real flows on both drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_testkit.drivers.choose import choose
from rpa_testkit.history.entries import Kind
from rpa_testkit.runner.run import run
from rpa_testkit.scenario.library import find
from rpa_testkit.warden.client import Warden


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R9.1", "R9.5")
def test_the_built_image_and_the_installed_flow_are_judged_alike(
    engine: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rpa2 scores real answers under the same faults, as a process and as the image of the two-stage build."""
    here = Path(__file__).parent
    monkeypatch.syspath_prepend(str(here))  # the producers import the payloads by name
    scenario = find(f"{here / 'survey_scenario.py'}:SURVEY")
    said = {}
    with Warden.start(open_folder) as warden:
        for driver in ("process", "docker"):
            done = run(scenario, choose(driver), seed=3, reports=open_folder, warden=warden)
            outcomes = [entry.value for entry in done.history if entry.kind == Kind.OUTCOME]
            assert len(outcomes) == scenario.workload.records
            said[driver] = [(verdict.checker, verdict.status.value) for verdict in done.judgement.verdicts]
            assert done.judgement.passed, done.judgement
            assert all(value[0] == 1 for value in outcomes), "every real answer is scored"
    assert said["process"] == said["docker"]
