"""Scoring: hand-computed values, and what holds for every response."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_flows.codebook.memo import Memo
from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.scoring import compile_scorer
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row


@pytest.mark.requirement("R9.4")
def test_the_first_real_respondent_scores_as_computed_by_hand(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Row 1: TVnews 7, selfLR 7, ClinLR 1, DoleLR 6, PID 6, educ 3, income 1, vote Dole."""
    scores = compile_scorer(anes96)(compile_validator(anes96)(anes96_rows[0]).answers)
    assert scores == {
        "items": {
            "tv_news": 1.0,
            "ideology": 1.0,
            "party": 1.0,
            "education": 0.3333,  # (3 - 1) / 6
            "income_level": 0.0,
            "vote_dole": 1.0,
        },
        "scales": {"republican_leaning": 1.0, "resources": 0.1667},  # (1/3 + 0) / 2
        "distances": {"self_clinton": 1.0, "self_dole": 0.1667, "clinton_dole": 0.8333},
        "nearest": {"nearer_candidate": "Dole"},
        "flags": [],
        "segment": "Loyal Republicans",
    }


@pytest.mark.requirement("R9.4")
def test_the_second_real_respondent_scores_as_computed_by_hand(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Row 2: TVnews 1, selfLR 3, ClinLR 3, DoleLR 5, PID 1, educ 4, income 1, vote Clinton."""
    scores = compile_scorer(anes96)(compile_validator(anes96)(anes96_rows[1]).answers)
    assert scores["items"] == {
        "tv_news": 0.1429, "ideology": 0.3333, "party": 0.1667, "education": 0.5, "income_level": 0.0,
        "vote_dole": 0.0,
    }  # fmt: skip
    assert scores["scales"] == {"republican_leaning": 0.1667, "resources": 0.25}
    assert scores["distances"] == {"self_clinton": 0.0, "self_dole": 0.3333, "clinton_dole": 0.3333}
    assert scores["nearest"] == {"nearer_candidate": "Clinton"}
    assert (scores["flags"], scores["segment"]) == ([], "Loyal Democrats")


@pytest.mark.requirement("R9.4")
def test_the_real_survey_has_the_counts_that_its_columns_give(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Flags and segments over all 944 agree with counts made straight from the columns."""
    validate, score = compile_validator(anes96), compile_scorer(anes96)
    scored = [score(validate(row).answers) for row in anes96_rows]
    numbers = [{name: float(value) for name, value in row.items()} for row in anes96_rows]
    reversed_ = sum(n["ClinLR"] > n["DoleLR"] for n in numbers)
    loyal = sum(n["PID"] <= 1 and n["vote"] == 0 for n in numbers)
    against = sum(n["PID"] >= 5 and n["selfLR"] >= 6 and n["vote"] == 0 for n in numbers)
    same = sum(n["selfLR"] == n["ClinLR"] == n["DoleLR"] for n in numbers)
    assert (reversed_, same, against) == (117, 7, 8)
    assert sum("candidates_reversed" in s["flags"] for s in scored) == reversed_
    assert sum("straight_line" in s["flags"] for s in scored) == same
    assert sum("against_party_and_position" in s["flags"] for s in scored) == against
    assert sum(s["segment"] == "Loyal Democrats" for s in scored) == loyal
    assert all(s["segment"] for s in scored)


@pytest.mark.requirement("R9.4", "N2")
def test_a_scale_is_the_mean_of_its_items_rounded_once(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Of all 944: the exact mean to four digits, not the mean of what was rounded before."""
    validate, score = compile_validator(anes96), compile_scorer(anes96)
    assert anes96.scales["resources"].items == ("education", "income_level")
    for row in anes96_rows:
        exact = (Fraction(int(float(row["educ"])) - 1, 6) + Fraction(int(float(row["income"])) - 1, 23)) / 2
        assert abs(score(validate(row).answers)["scales"]["resources"] - exact) <= Fraction(1, 19_999)


@pytest.mark.requirement("R9.4")
def test_another_survey_is_scored_by_its_codebook_alone(satisfaction: Codebook, satisfaction_rows: list[Row]) -> None:
    """Five responses with text codes, dates, reversed items, clamped and missing answers, by hand."""
    validate, score = compile_validator(satisfaction), compile_scorer(satisfaction)
    first, second, third, fourth, fifth = (score(validate(row).answers) for row in satisfaction_rows)
    assert first["items"] == {
        "service_score": 1.0, "price_score": 0.75, "speed_score": 1.0, "calm": 1.0, "spent_score": 0.6025,
    }  # fmt: skip
    assert first["scales"] == {"contentment": 0.9375}
    assert (first["distances"], first["nearest"]) == ({"gap": 0.25}, {"price_like": "expectation"})
    assert second["items"]["spent_score"] == 1.0, "300 is held at 200"
    assert (second["segment"], second["scales"]) == ("At risk", {"contentment": 0.0625})
    assert third["nearest"] == {"price_like": None}, "no price, so nothing is near it"
    assert third["scales"] == {"contentment": 0.6667}, "3 of 4 items are enough"
    assert (third["segment"], third["flags"]) == ("Late visitors", ["half_empty", "same_answer"])
    assert (fourth["flags"], fourth["nearest"]) == (["same_answer"], {"price_like": "tie"})
    assert fifth["scales"] == {"contentment": None}, "2 of 4 items are not"
    assert (fifth["segment"], first["segment"]) == ("Let down", "Everybody else")


@pytest.mark.requirement("R9.4")
def test_conditions_may_read_scores(satisfaction: Codebook, satisfaction_rows: list[Row]) -> None:
    """content_complainer reads the scale contentment: a happy customer who complained is flagged."""
    validate, score = compile_validator(satisfaction), compile_scorer(satisfaction)
    row = {**satisfaction_rows[0], "complained": "yes"}  # contentment 0.6875
    assert score(validate(row).answers)["flags"] == ["content_complainer"]


def _responses(book: Codebook) -> st.SearchStrategy[dict[str, Any]]:
    small = {"popul": 9000, "age": 110, "TVnews": 7, "PID": 6, "income": 24, "vote": 1}
    low = {"age": 17, "TVnews": 0, "PID": 0, "vote": 0, "popul": 0}
    required = {name for name, field in book.fields.items() if field.required}
    answers = {
        name: st.integers(low.get(name, 1), small.get(name, 7)) | (st.nothing() if name in required else st.none())
        for name in book.fields
        if name != "respondent"
    }
    return st.fixed_dictionaries({"respondent": st.none(), **answers})


@pytest.mark.requirement("R9.4")
@given(data=st.data())
def test_every_score_is_within_0_and_1_or_missing(anes96: Codebook, data: st.DataObject) -> None:
    """Whatever the answers: scores stay in their range, a missing answer gives a missing score, flags are known."""
    answers = data.draw(_responses(anes96))
    scores = compile_scorer(anes96)(answers)
    for group in ("items", "scales", "distances"):
        assert all(value is None or 0.0 <= value <= 1.0 for value in scores[group].values())
    for name, item in anes96.items.items():
        assert (scores["items"][name] is None) == (answers[item.field] is None)
    assert (scores["distances"]["self_dole"] is None) == (answers["DoleLR"] is None)
    unknown = None in (answers["ClinLR"], answers["DoleLR"])
    assert (scores["nearest"]["nearer_candidate"] is None) == unknown
    assert set(scores["flags"]) <= set(anes96.flags)
    assert scores["segment"] in {segment.label for segment in anes96.segments}


@pytest.mark.requirement("R9.4")
@pytest.mark.parametrize("spoiled", [{"selfLR": 12}, {"selfLR": "3"}, {"selfLR": [3]}, {"PID": None, "vote": "x"}])
def test_answers_that_validation_refuses_are_not_scored(
    anes96: Codebook, anes96_rows: list[Row], spoiled: dict[str, Any]
) -> None:
    """Out of range, of another type: an error, never a score."""
    answers = compile_validator(anes96)(anes96_rows[0]).answers | spoiled
    with pytest.raises((KeyError, TypeError, ValueError)):
        compile_scorer(anes96)(answers)


@pytest.mark.requirement("R6.2")
def test_the_look_up_tables_stay_small() -> None:
    """A million different values leave a bounded table, and still give the right answer."""
    table = Memo(lambda value: value * 2, limit=100)
    assert all(table[value] == value * 2 for value in range(1_000_000))
    assert len(table) == 100
