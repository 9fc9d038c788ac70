"""Made-up respondents: reproducible, and with the structure of real ones."""

from __future__ import annotations

import random
from collections import Counter
from statistics import correlation, fmean, median
from typing import Any

import orjson
import pytest

from rpa_testkit import TestDataManager
from rpa_testkit.suite import hostile, survey
from rpa_testkit.suite.data import FAULTY_SHARE, SCENARIOS

_PEOPLE = [person.answers for person in survey.people(5, 3000)]


def _column(name: str, *, known_with: str = "age") -> tuple[list[float], list[float]]:
    """Two columns, without the rows in which either is missing."""
    pairs = [(p[name], p[known_with]) for p in _PEOPLE if p[name] >= 0 and p[known_with] >= 0]
    return [one for one, _ in pairs], [other for _, other in pairs]


@pytest.mark.requirement("R9.6")
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_the_same_seed_makes_the_same_bytes(scenario: str) -> None:
    """And another seed makes others."""
    made = [list(TestDataManager(seed=seed).records(scenario, 300)) for seed in (3, 3, 4)]
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert len(made[0]) == 300


@pytest.mark.requirement("R9.6")
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "duplicates"])
def test_keys_are_unique(scenario: str) -> None:
    """Nothing is taken for a duplicate that was not meant to be one."""
    records = list(TestDataManager().records(scenario, 2_000))
    assert len({record.key for record in records}) == 2_000
    assert all(isinstance(orjson.loads(record.payload), dict) for record in records[:50])


@pytest.mark.requirement("R9.6")
def test_answers_hang_together() -> None:
    """As in a real study: who earns, watches, feels and votes how is no accident."""
    assert correlation(*_column("income", known_with="education")) > 0.4
    assert correlation(*_column("education")) < -0.1
    assert correlation(*_column("tv_days")) > 0.2
    assert correlation(*_column("web_days")) < -0.1
    assert correlation(*_column("feeling_democrats", known_with="party_id")) < -0.6
    assert correlation(*_column("feeling_republicans", known_with="party_id")) > 0.6
    by_vote = {vote: fmean(p["party_id"] for p in _PEOPLE if p["vote"] == vote) for vote in (1, 2)}
    assert by_vote[1] + 2 < by_vote[2]


@pytest.mark.requirement("R9.6")
def test_answers_are_skewed_and_sometimes_missing() -> None:
    """More at the ends of the party scale than in its middle; days with news heap at none and all; incomes refused."""
    party = Counter(p["party_id"] for p in _PEOPLE)
    assert set(party) == set(range(7))
    assert min(party[0], party[6]) > max(party[number] for number in (1, 2, 3, 4, 5))
    days = Counter(p["tv_days"] for p in _PEOPLE)
    assert set(days) == set(range(8))
    assert min(days[0], days[7]) > max(days[number] for number in range(1, 7))
    incomes = Counter(p["income"] for p in _PEOPLE)
    assert 0.03 < incomes[survey.REFUSED] / len(_PEOPLE) < 0.15
    assert incomes[survey.UNKNOWN] > 0
    assert fmean(p["weight"] for p in _PEOPLE) == pytest.approx(1.0, abs=0.01)
    assert median(p["weight"] for p in _PEOPLE) < 1.0
    heaped = sum(p["feeling_democrats"] % 5 == 0 for p in _PEOPLE if p["feeling_democrats"] >= 0)
    assert heaped / len(_PEOPLE) > 0.7


@pytest.mark.requirement("R9.6")
def test_every_answer_stays_in_its_range() -> None:
    """Also where an answer was moved."""
    ranges = {
        "age": (18, 91),
        "education": (1, 7),
        "party_id": (0, 6),
        "tv_days": (0, 7),
        "feeling_democrats": (0, 100),
    }
    for record in survey.records(5_000, 9):
        answers = orjson.loads(record.payload)
        for name, (least, most) in ranges.items():
            assert least <= answers[name] <= most or answers[name] in (survey.REFUSED, survey.UNKNOWN)


@pytest.mark.requirement("R9.6")
def test_two_in_a_hundred_are_faulty() -> None:
    """Of four kinds, each of which a codebook refuses."""
    faulty = [answers for answers in _payloads("faulty", 10_000) if _is_faulty(answers)]
    assert FAULTY_SHARE * 0.75 < len(faulty) / 10_000 < FAULTY_SHARE * 1.25
    assert not any(_is_faulty(answers) for answers in _payloads("survey", 3_000))


@pytest.mark.requirement("R9.6")
def test_duplicates_come_under_the_key_of_an_earlier_record() -> None:
    """With the same payload."""
    records = list(TestDataManager().records("duplicates", 4_000))
    seen: dict[str | None, bytes] = {}
    again = 0
    for record in records:
        again += record.key in seen
        assert seen.setdefault(record.key, record.payload) == record.payload
    assert 0.03 < again / 4_000 < 0.07


@pytest.mark.requirement("R9.6")
def test_hostile_large_and_skewed_are_what_they_say() -> None:
    """Every text comes; transcripts have their size; a tenth of the places has most of the respondents."""
    assert {answers.get("comment") for answers in _payloads("hostile", 6_000)} >= set(hostile.TEXTS)
    assert all(8 * 1024 <= len(answers["transcript"]) <= 48 * 1024 for answers in _payloads("large", 50))
    skewed = _payloads("skewed", 5_000)
    places = Counter(answers["point"] for answers in skewed)
    assert sum(number for _, number in places.most_common(20)) > 0.55 * 5_000
    lengths = sorted((len(answers.get("comment", "")) for answers in skewed), reverse=True)
    assert sum(lengths[:250]) > 0.7 * sum(lengths)


@pytest.mark.requirement("R9.6")
def test_a_workload_can_carry_survey_answers() -> None:
    """The payload function of a scenario's workload."""
    answers = survey.payload(17, random.Random(1))
    assert answers["n"] == 17
    assert answers["respondent"] == "t17"
    assert answers == survey.payload(17, random.Random(1))


@pytest.mark.requirement("R9.6")
def test_an_unknown_scenario_is_named() -> None:
    """With those that there are."""
    with pytest.raises(LookupError, match="'surveys'; there are survey, faulty"):
        TestDataManager().records("surveys")


def _payloads(scenario: str, number: int) -> list[dict[str, Any]]:
    return [orjson.loads(record.payload) for record in TestDataManager(seed=2).records(scenario, number)]


def _is_faulty(answers: dict[str, Any]) -> bool:
    return not isinstance(answers.get("age"), int) or answers["tv_days"] > 7 or "q99" in answers
