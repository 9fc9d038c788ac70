"""Reading codebooks: what is right is read, and everything that is wrong is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_core.errors import ConfigError
from rpa_flows.codebook.load import load_codebook, parse_codebook, shipped
from rpa_flows.codebook.model import ChoiceField, Codebook, IntegerField

_SOUND = """
name = "tiny"
title = "Tiny"
[fields.a]
type = "integer"
range = [1, 5]
[fields.b]
type = "integer"
range = [1, 7]
[fields.c]
type = "choice"
choices = { x = "X", y = "Y" }
[fields.t]
type = "text"
[items]
ia = { field = "a" }
"""


def _problems(toml: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_codebook(toml.encode(), "tiny.toml")
    return caught.value.problems


@pytest.mark.requirement("R7.7")
def test_the_shipped_codebook_describes_every_column_of_its_data(
    anes96: Codebook, anes96_rows: list[dict[str, str]]
) -> None:
    """anes96 is shipped with its codebook, and each column of the data is a field."""
    assert shipped() == ["anes96"]
    assert len(anes96_rows) == 944
    assert set(anes96_rows[0]) == set(anes96.fields) - {"respondent"}


@pytest.mark.requirement("R7.7")
def test_codes_of_a_choice_are_numbers_only_when_all_can_be(anes96: Codebook, satisfaction: Codebook) -> None:
    """vote has the codes 0 and 1 as numbers; slow, fair and fast stay text."""
    vote, speed = anes96.fields["vote"], satisfaction.fields["speed"]
    assert isinstance(vote, ChoiceField)
    assert isinstance(speed, ChoiceField)
    assert vote.codes == {0: "Clinton", 1: "Dole"}
    assert list(speed.codes) == ["slow", "fair", "fast"]


@pytest.mark.requirement("R7.7")
def test_labels_are_read_by_their_value(anes96: Codebook) -> None:
    """TOML keys are text; labels of a whole number are looked up by the number."""
    party = anes96.fields["PID"]
    assert isinstance(party, IntegerField)
    assert party.labels[0] == "Strong Democrat"


@pytest.mark.requirement("R1.1")
def test_all_problems_come_at_once_each_with_its_path_and_correction() -> None:
    """A codebook with many faults in different entries reports every one of them, in one error."""
    problems = _problems(
        """
        name = "Bad Name"
        colour = 1
        encoding = "utf-9"
        key = ["nobody"]
        [fields.a]
        type = "int"
        [fields.b]
        type = "integer"
        range = [7, 1]
        requierd = true
        [fields.c]
        type = "choice"
        [fields.d]
        type = "number"
        [items]
        ia = { field = "bb" }
        id = { field = "d" }
        [flags.f]
        kind = "straigt_line"
        [flags.g]
        kind = "combination"
        when = { d = { above = 3 } }
        """
    )
    expected = {
        "tiny.toml: fields.a.type: 'int' is not one; did you mean 'integer'?",
        "tiny.toml: fields.b.range: [7, 1] does not fit; write the smaller bound first: [1, 7]",
        "tiny.toml: fields.b.requierd: unknown setting; did you mean 'required'?",
        "tiny.toml: fields.c.choices: missing; add choices",
        "tiny.toml: flags.f.kind: 'straigt_line' is not one; did you mean 'straight_line'?",
        "tiny.toml: flags.g.when.d.above: unknown comparison;",
        "tiny.toml: title: missing; add title",
        "tiny.toml: colour: unknown setting;",
        "tiny.toml: name: 'Bad Name' does not fit;",
        "tiny.toml: encoding: 'utf-9' is not known",
        "tiny.toml: key: 'nobody' is not in fields",
        "tiny.toml: items.ia.field: 'bb' is not in fields",
        "tiny.toml: items.id: d has no range",
    }
    for start in expected:
        assert any(problem.startswith(start) for problem in problems), (start, problems)


@pytest.mark.requirement("R1.1")
@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ('it = { field = "t" }', "items.it.field: t is text, which has no order; use a numeric field"),
        ('ic = { field = "c" }', "items.ic.field: c is choice, which has no order; add values"),
        ('ic = { field = "c", values = { x = 1.0 } }', "items.ic.values: does not cover the codes of c; list x, y"),
        ('ic = { field = "a", min = 5, max = 1 }', "items.ic: min 5 is not below max 1"),
        ('a = { field = "a" }', "fields.a has the same name"),
        ('[scales]\ns = { items = ["ia", "ib"] }', "scales.s.items: 'ib' is not in items; known are ia"),
        ('[scales]\ns = { items = ["ia"], min_valid = 2 }', "scales.s.min_valid: 2 is more than the scale's 1 items"),
        ('[distances]\nd = { between = ["a", "b"] }', "distances.d.between: ranges differ: a 1-5, b 1-7"),
        ('[distances]\nd = { between = ["a", "t"] }', "distances.d.between: t has no range"),
        ('[[segments]]\nlabel = "all"\n[[segments]]\nlabel = "x"', "segments[0].when: missing, so that no later"),
        ('[[segments]]\nlabel = "x"\nwhen = { a = "3" }', "segments[0].when.a: '3' is not a number"),
        ('[[segments]]\nlabel = "x"\nwhen = { c = "z" }', "segments[0].when.c: 'z' is no code of c; use one of x, y"),
        ('[[segments]]\nlabel = "x"\nwhen = { a = { gt_field = "t" } }', "segments[0].when.a: a is number, t is text"),
        ('[[segments]]\nlabel = "x"\nwhen = { a = { missing = 1 } }', "segments[0].when.a.missing: 1 is not true"),
        ('[[segments]]\nlabel = "x"\nwhen = { a = { in = 1 } }', "segments[0].when.a.in: 1 is not a list"),
        ('[[segments]]\nlabel = "x"\nwhen = 3', "segments[0].when: 3 holds no condition"),
        ("[jitter]\nzz = { share = 2, steps = 1 }", "jitter.zz.share: 2 does not fit"),
        ('[summary]\nvote = "vot"', "summary.vote: 'vot' is not in fields"),
        ("[flags]\nf = 3", "flags.f.kind: missing; write kind = one of"),
    ],
)
def test_what_does_not_go_together_is_refused(addition: str, problem: str) -> None:
    """Entries that are fine alone but not together: the message names the entry and says what to write."""
    assert any(problem in line for line in _problems(_SOUND + addition))


@pytest.mark.requirement("R1.1")
def test_a_file_that_is_not_toml_or_not_there_is_said_so(tmp_path: Path) -> None:
    """Broken TOML names the line, a missing file the shipped names, another encoding the byte."""
    assert "line 2" in _problems("\nname = = 1")[0]
    with pytest.raises(ConfigError, match=r"did you mean 'anes96'"):
        load_codebook("anes69")
    (tmp_path / "latin.toml").write_bytes('title = "Umfrage für alle"'.encode("cp1252"))
    with pytest.raises(ConfigError, match="save the file as UTF-8"):
        load_codebook(tmp_path / "latin.toml")
