"""Validation: what a valid response becomes, and every reason against one that is not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpa_flows.codebook.load import load_codebook
from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row

_VALID = {
    "customer": "C9", "visit": "2026-02-03", "service": "4", "price": "3", "expected": "5", "speed": "fair",
    "complained": "no", "spent": "12.5", "comment": "fine",
}  # fmt: skip


@pytest.mark.requirement("R7.7")
def test_all_real_responses_are_valid(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Each of the 944 real rows passes, and its answers are typed."""
    validate = compile_validator(anes96)
    checked = [validate(row) for row in anes96_rows]
    assert [c.reasons for c in checked] == [()] * 944
    assert checked[1].answers == {
        "respondent": None, "popul": 190.0, "TVnews": 1, "selfLR": 3, "ClinLR": 3, "DoleLR": 5, "PID": 1,
        "age": 20, "educ": 4, "income": 1, "vote": 0,
    }  # fmt: skip
    assert checked[1].key is None


@pytest.mark.requirement("R7.7")
def test_every_type_is_read_from_text_and_from_json(satisfaction: Codebook) -> None:
    """Text as CSV has it and values as JSON has them give the same answers, and a key of two parts."""
    validate = compile_validator(satisfaction)
    from_text = validate(_VALID)
    from_json = validate({**_VALID, "service": 4, "price": 3.0, "expected": 5, "complained": False, "spent": 12.5})
    assert from_text == from_json
    assert from_text.reasons == ()
    assert from_text.key == "C9/2026-02-03"
    assert from_text.answers == {
        "customer": "C9", "visit": "2026-02-03", "service": 4, "price": 3, "expected": 5, "speed": "fair",
        "complained": False, "spent": 12.5, "comment": "fine",
    }  # fmt: skip


@pytest.mark.requirement("R7.7")
@pytest.mark.parametrize(
    ("field", "raw", "reason"),
    [
        ("service", "", "service: required, but missing"),
        ("service", "9", "service: required, but missing"),
        ("service", 9.0, "service: required, but missing"),
        ("service", None, "service: required, but missing"),
        ("service", "6", "service: 6 is outside 1 to 5"),
        ("service", "4.5", "service: '4.5' is not a whole number"),
        ("service", "four", "service: 'four' is not a whole number"),
        ("service", True, "service: True is not a whole number"),
        ("service", "nan", "service: 'nan' is not a whole number"),
        ("service", 10**400, "is not a whole number"),
        ("service", [4], "service: [4] is not a single value"),
        ("service", {"x": 1}, "service: {'x': 1} is not a single value"),
        ("service", "4" * 100, "service: 100 characters, longer than 64"),
        ("spent", "inf", "spent: 'inf' is not a number"),
        ("spent", "1e400", "spent: '1e400' is not a number"),
        ("spent", -0.5, "spent: -0.5 is outside 0 to 5000"),
        ("speed", "quick", "speed: 'quick' is none of slow (Slow), fair (Fair), fast (Fast)"),
        ("speed", True, "speed: True is none of slow"),
        ("complained", "maybe", "complained: 'maybe' is none of yes, ja, no, nein"),
        ("visit", "03.02.2026", "visit: '03.02.2026' is not a date; write YYYY-MM-DD"),
        ("visit", "2026-02-30", "visit: '2026-02-30' is not a date"),
        ("visit", "2027-01-01", "visit: 2027-01-01 is outside 2026-01-01 to 2026-12-31"),
        ("customer", "C" * 21, "customer: 21 characters, longer than 20"),
        ("customer", 7, "customer: 7 is not text"),
        ("comment", "a\0b", "comment: contains a NUL character"),
        ("coment", "x", "'coment': unknown column; did you mean 'comment'?"),
    ],
)
def test_each_fault_has_its_reason(satisfaction: Codebook, field: str, raw: Any, reason: str) -> None:
    """One wrong value gives exactly one reason, which names the field, the value and what is allowed."""
    reasons = compile_validator(satisfaction)({**_VALID, field: raw}).reasons
    assert len(reasons) == 1
    assert reason in reasons[0]


@pytest.mark.requirement("R8.7")
def test_all_reasons_come_at_once(satisfaction: Codebook) -> None:
    """A response with several faults gets every reason, not just the first."""
    checked = compile_validator(satisfaction)({"customer": "C1", "visit": "x", "service": "7", "spent": "?", "q": 1})
    assert [reason.split(":")[0] for reason in checked.reasons] == ["visit", "service", "spent", "'q'"]


@pytest.mark.requirement("R7.7")
def test_quotes_that_the_reader_left_are_taken_off(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """anes96 quotes its header with '; read as if " were the quote, its rows are valid all the same."""
    validate = compile_validator(anes96)
    row = {f"'{name}'": value for name, value in anes96_rows[0].items()}
    assert validate(row) == validate(anes96_rows[0])
    assert validate({**row, "'vote'": "'1'"}) == validate(anes96_rows[0])
    assert validate({**anes96_rows[0], "'": "x"}).reasons != ()


@pytest.mark.requirement("R7.7")
def test_one_and_true_are_not_the_same_answer(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """The order in which equal-looking values arrive changes nothing: remembered readings do not leak."""
    validate = compile_validator(anes96)
    assert validate({**anes96_rows[0], "PID": 1}).reasons == ()
    assert validate({**anes96_rows[0], "PID": "1"}).reasons == ()
    assert validate({**anes96_rows[0], "PID": True}).reasons == ("PID: True is not a whole number",)


@pytest.mark.requirement("R7.7")
def test_parts_of_a_key_cannot_be_confused() -> None:
    """a + b/c and a/b + c are different keys; a missing part is a reason; an endless key is one too."""
    book = load_codebook("anes96").model_copy(update={"key": ("respondent", "other")})
    text = book.fields["respondent"].model_copy(update={"max_length": 1000})
    fields = {"respondent": text, "other": text}
    validate = compile_validator(book.model_copy(update={"fields": fields}))
    assert validate({"respondent": "a", "other": "b/c"}).key != validate({"respondent": "a/b", "other": "c"}).key
    assert validate({"respondent": "a"}).reasons == ("other: missing, but part of the key respondent + other",)
    assert "too long for a key" in validate({"respondent": "a" * 400, "other": "b" * 400}).reasons[0]
    assert validate({}).key is None


@pytest.mark.requirement("R7.7")
@pytest.mark.parametrize("raw", [None, 3, "text", [1], True])
def test_what_is_no_object_is_refused(anes96: Codebook, raw: Any) -> None:
    """A payload that is not an object of columns gets a reason, not an exception."""
    assert "is not an object" in compile_validator(anes96)(raw).reasons[0]


@pytest.mark.requirement("R7.7")
def test_a_flood_of_unknown_columns_is_cut_short(anes96: Codebook) -> None:
    """10,000 unknown columns make at most 51 reasons."""
    reasons = compile_validator(anes96)({f"c{i}": "x" for i in range(10_000)}).reasons
    assert len(reasons) == 51
    assert reasons[-1].startswith("and ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.requirement("R7.7", "R8.7")
@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text drawn builds Unicode tables
@given(response=st.dictionaries(st.sampled_from([*_VALID, "x"]), _JSON))
def test_no_input_raises_and_what_is_accepted_is_valid_again(satisfaction: Codebook, response: dict[str, Any]) -> None:
    """Whatever arrives is answered; accepted answers can be stored as JSON and validate to themselves."""
    validate = compile_validator(satisfaction)
    checked = validate(response)
    if not checked.reasons:
        assert set(checked.answers) == set(satisfaction.fields)
        assert validate(orjson.loads(orjson.dumps(checked.answers))).answers == checked.answers
