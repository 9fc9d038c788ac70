"""The README's worked example is true to the letter."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from rpa_core.errors import ConfigError
from rpa_flows.codebook.load import parse_codebook
from rpa_flows.codebook.scoring import compile_scorer
from rpa_flows.codebook.validate import compile_validator

_README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def _block(language: str, place: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", _README, re.DOTALL)
    return found[place]


@pytest.mark.requirement("D6")
def test_the_other_survey_scores_as_shown() -> None:
    """Codebook, file, result and reasons in the README belong together."""
    book = parse_codebook(_block("toml").encode(), "spring.toml")
    validate, score = compile_validator(book), compile_scorer(book)
    first, second, third = (validate(row) for row in csv.DictReader(_block("csv").splitlines()))
    assert first.reasons == ()
    shown = json.loads(_block("json"))
    assert {"survey": book.name, "key": second.key, **score(second.answers)} == shown
    assert list(third.reasons) == _block("text").splitlines()


@pytest.mark.requirement("D6", "R1.1")
def test_the_codebook_errors_are_as_shown() -> None:
    """The two misspellings of the README give the two messages of the README, together."""
    wrong = _block("toml").replace("range = [1, 5]\nmissing", "rnge = [1, 5]\nmissing")
    wrong = wrong.replace('"service_score", "price', '"sevice_score", "price')
    with pytest.raises(ConfigError) as caught:
        parse_codebook(wrong.encode(), "spring.toml")
    for shown in _block("text", 1).splitlines():
        start = shown.removesuffix(" ...").rstrip(",")
        assert any(problem.startswith(start) for problem in caught.value.problems), (start, caught.value.problems)
