"""Made-up responses: the same for the same seed, like the real ones, faults as stated, in constant memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import correlation, mean

import orjson
import pytest

from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.scoring import compile_scorer
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Fault, Row, generate, generate_labelled, real_rows, write_delimited, write_jsonl


@pytest.mark.requirement("R9.6")
def test_the_same_seed_gives_the_same_responses(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Equal for equal seeds whatever the number asked for, different for another seed."""
    once = list(generate(anes96, anes96_rows, 500, seed=7))
    assert list(islice(generate(anes96, anes96_rows, 9_999, seed=7), 500)) == once
    assert list(generate(anes96, anes96_rows, 500, seed=8)) != once


@pytest.mark.requirement("R9.6")
def test_every_fault_is_caught_and_nothing_else(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Set-aside faults are refused by validation, flag faults raise a flag, sound rows are valid; keys are unique."""
    validate, score = compile_validator(anes96), compile_scorer(anes96)
    seen: Counter[Fault | None] = Counter()
    keys = set()
    for row, fault in generate_labelled(anes96, anes96_rows, 20_000, fault_share=0.1):
        checked = validate(row)
        seen[fault] += 1
        keys.add(row["respondent"])
        assert bool(checked.reasons) == (fault is not None and fault.set_aside), (fault, checked.reasons)
        if fault is Fault.STRAIGHT_LINE:
            assert "straight_line" in score(checked.answers)["flags"]
        if fault is Fault.MANY_MISSING:
            assert "many_missing" in score(checked.answers)["flags"]
    assert len(keys) == 20_000
    assert set(seen) == {None, *Fault}
    assert 0.09 < 1 - seen[None] / 20_000 < 0.11


@pytest.mark.requirement("R9.6")
def test_what_goes_together_in_the_data_goes_together_here(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """Correlations of party, position and vote stay within 0.05 of the real ones, means within 2 % of the range."""
    made = list(generate(anes96, anes96_rows, 20_000, fault_share=0))

    def column(rows: list[Row], name: str) -> list[float]:
        return [float(row[name]) for row in rows]

    for one, other in (("PID", "vote"), ("selfLR", "PID"), ("educ", "income"), ("selfLR", "ClinLR")):
        real = correlation(column(anes96_rows, one), column(anes96_rows, other))
        assert correlation(column(made, one), column(made, other)) == pytest.approx(real, abs=0.05)
    for name, width in (("selfLR", 6), ("age", 93), ("income", 23)):
        assert mean(column(made, name)) == pytest.approx(mean(column(anes96_rows, name)), abs=0.02 * width)
    moved = sum(row["vote"] != "0" for row in made) / len(made)
    assert moved == pytest.approx(393 / 944, abs=0.02)


@pytest.mark.requirement("R6.2")
def test_memory_does_not_grow_with_the_number_of_rows(anes96: Codebook, anes96_rows: list[Row]) -> None:
    """50,000 rows peak no higher than 1,000 do, give or take 100 KB."""

    def peak(number: int) -> int:
        tracemalloc.start()
        for _ in generate(anes96, anes96_rows, number):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(50_000) < peak(1_000) + 100_000


@pytest.mark.requirement("R9.6")
def test_files_are_read_back_as_they_were_written(anes96: Codebook, anes96_rows: list[Row], tmp_path: Path) -> None:
    """The delimited form of the codebook and JSON lines both give the rows back."""
    rows = list(generate(anes96, anes96_rows, 200, fault_share=0))
    assert write_delimited(tmp_path / "made.csv", anes96, rows) == 200
    assert real_rows(anes96, tmp_path / "made.csv") == rows
    assert write_jsonl(tmp_path / "made.jsonl", rows) == 200
    assert [orjson.loads(line) for line in (tmp_path / "made.jsonl").read_bytes().splitlines()] == rows


@pytest.mark.requirement("R9.6")
def test_another_survey_gets_made_up_responses_too(satisfaction: Codebook, satisfaction_rows: list[Row]) -> None:
    """The generator knows nothing of anes96: the codebook's jitter and key are enough."""
    validate = compile_validator(satisfaction)
    for row, fault in generate_labelled(satisfaction, satisfaction_rows, 2_000, fault_share=0.2):
        assert bool(validate(row).reasons) == (fault is not None and fault.set_aside), (row, fault)
