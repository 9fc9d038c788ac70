"""The root's conftest.py: the option for proofs in full, the order of slow tests."""

from __future__ import annotations

import runpy
import shutil

import pytest
from ci.workspace import ROOT

_PROOFS = """
import pytest
def test_quick(): pass
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.full_proof
def test_long(): pass
def test_counted(counted): print("times", counted(3, 50))
"""


@pytest.fixture
def small(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of four tests under the workspace's rules."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    pytester.makepyfile(test_proofs=_PROOFS)
    pytester.makeini("[pytest]\nmarkers =\n    slow: s\n    full_proof: f\n")
    return pytester


@pytest.mark.requirement("D1")
def test_each_change_runs_the_short_form_and_reports_what_is_left_out(small: pytest.Pytester) -> None:
    """The tests of the full form are deselected, not skipped; the header names the form."""
    result = small.runpytest_subprocess("-s", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines(["*proof: short*", "*times 3*"])


@pytest.mark.requirement("D1")
def test_one_option_runs_the_full_form(small: pytest.Pytester) -> None:
    """Every test, with the counts that are promised."""
    result = small.runpytest_subprocess("-s", "-p", "no:cacheprovider", "--proof", "full")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*proof: full*", "*times 50*"])
    assert small.runpytest_subprocess("--proof", "half").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_slow_tests_begin_each_workers_block(workers: int) -> None:
    """Each of them is among the first of one of the blocks that xdist deals out; no test is lost or repeated."""
    rules = runpy.run_path(str(ROOT / "conftest.py"))
    slow = [number % 4 == 3 or number > 17 for number in range(23)]
    order = rules["slow_first"](slow, workers)
    assert sorted(order) == list(range(23))
    share = -(-sum(slow) // workers)
    at, place = 0, list(order)
    first = []
    for worker in range(workers):
        size = (23 - at) // (workers - worker)
        first += place[at : at + min(size, share)]
        at += size
    assert {index for index, is_slow in enumerate(slow) if is_slow} <= set(first)


@pytest.mark.requirement("D1")
def test_without_the_tools_their_tests_are_left_out_and_named(pytester: pytest.Pytester) -> None:
    """An editor that has the packages alone collects the others' tests."""
    rules = (ROOT / "conftest.py").read_text().replace('find_spec("invoke")', "None")
    pytester.makeconftest(rules)
    for folder in ("tests/ci", "tests/architecture"):
        (pytester.path / folder).mkdir(parents=True)
        (pytester.path / folder / "test_it.py").write_text("def test_it(): pass\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*left out: tests/ci, which needs*"])
