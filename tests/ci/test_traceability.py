"""Requirements against tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ci import traceability

_REQUIREMENTS = """# Requirements
| id | what holds |
|---|---|
| R1.1 | starts |
| R3.1 R9.1 | counts |
| S2 | fetches |
"""
_TEST = """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.requirement("S2")]
@pytest.mark.requirement("R1.1", "R3.1")
@pytest.mark.parametrize("n", [1])
def test_plain(n): ...
class TestMore:
    @pytest.mark.requirement("R9.1")
    async def test_method(self): ...
def helper(): ...
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small workspace in which everything is as it should be."""
    for name, text in {
        "docs/requirements.md": _REQUIREMENTS,
        "packages/core/tests/unit/test_it.py": _TEST,
        "ci/planned.txt": "# nothing\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_mark_is_found(tree: Path) -> None:
    """On functions, methods, classes and modules, with several ids at once."""
    matrix = traceability.read(tree)
    file = "packages/core/tests/unit/test_it.py"
    assert matrix.tests == {
        "R1.1": [f"{file}::test_plain"],
        "R3.1": [f"{file}::test_plain"],
        "R9.1": [f"{file}::TestMore::test_method"],
        "S2": [f"{file}::test_plain", f"{file}::TestMore::test_method"],
    }
    assert list(matrix.wording) == ["R1.1", "R3.1", "R9.1", "S2"]
    assert matrix.problems() == []


@pytest.mark.parametrize(
    ("requirement", "planned", "problem"),
    [
        ("| R2.1 | waits |", "", "R2.1 has no test and is not planned"),
        ("", "S2  later", "S2 is planned and has a test"),
        ("", "R7.7  later", "R7.7 is in ci/planned.txt and not in"),
    ],
)
def test_what_does_not_fit_is_a_problem(tree: Path, requirement: str, planned: str, problem: str) -> None:
    """An id without a test, a planned one with a test, a plan for nothing."""
    (tree / "docs/requirements.md").write_text(_REQUIREMENTS + requirement)
    (tree / "ci/planned.txt").write_text(planned)
    (found,) = traceability.read(tree).problems()
    assert found.startswith(problem)


def test_an_id_that_does_not_exist_is_a_problem(tree: Path) -> None:
    """A misspelt mark proves nothing."""
    test = tree / "packages/core/tests/unit/test_it.py"
    test.write_text(_TEST.replace("R9.1", "R9.11"))
    problems = traceability.read(tree).problems()
    assert [problem.split()[0] for problem in problems] == ["R9.1", "R9.11"]


def test_a_planned_id_is_no_problem_and_stands_in_both_reports(tree: Path) -> None:
    """The reports for people and for programs say what a requirement waits for."""
    (tree / "docs/requirements.md").write_text(_REQUIREMENTS + "| D5 | helps |\n")
    (tree / "ci/planned.txt").write_text("D5  some day  # comment\n")
    matrix = traceability.read(tree)
    assert matrix.problems() == []
    assert "| D5 | helps | planned: some day |" in matrix.markdown()
    document = json.loads(json.dumps(matrix.document()))
    assert document["requirements"][-1] == {"id": "D5", "wording": "helps", "tests": [], "planned": "some day"}
