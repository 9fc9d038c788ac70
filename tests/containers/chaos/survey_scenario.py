"""Real survey answers scored by rpa2 under faults: an installed flow on processes, its built image in containers."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

from rpa_flows.codebook.load import load_codebook
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import real_rows
from rpa_testkit.scenario.library import CRASH, PAUSE, RESTART
from rpa_testkit.scenario.model import Scenario, Service, Topology, Workload
from rpa_testkit.scenario.plan import Mix


@cache
def _answers() -> list[dict[str, Any]]:
    """Those of the shipped survey, in the form in which rpa1 hands them on."""
    book = load_codebook("anes96")
    validate = compile_validator(book)
    return [checked.answers for row in real_rows(book) if not (checked := validate(row)).reasons]


def payload(serial: int, rand: random.Random) -> dict[str, Any]:
    """One respondent's answers, under a key of their own."""
    return {"survey": "anes96", "key": f"s{serial}", "answers": rand.choice(_answers())}


SURVEY = Scenario(
    name="survey",
    about="real survey answers are scored while workers and connections break",
    topology=Topology(services=(Service(name="rpa2", flow="rpa2", image="rpa-flow2:development", replicas=2),)),
    workload=Workload(
        flow="rpa2", records=20_000, batch=100, rate=1_500, payload="survey_scenario:payload", reject_share=0.0
    ),
    faults=Mix(
        faults=tuple(replace(fault, on="rpa2") for fault in (CRASH, PAUSE, RESTART)), count=4, every_s=(1.0, 2.0)
    ),
)
