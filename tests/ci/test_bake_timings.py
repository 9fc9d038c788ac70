"""The history of build times, and what counts as slower."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci.images import timings
from ci.images.progress import Step


def build(root: Path, *, cached: bool = False, **steps: float) -> None:
    made = [
        Step(image="base", name=name, seconds=seconds, cached=cached, began=100.0, ended=100.0 + seconds)
        for name, seconds in steps.items()
    ]
    timings.append(root, {"base": "0123456789abcdef"}, made, environment="production", seconds=9.0)


@pytest.mark.requirement("R4.8")
def test_a_history_is_appended_to_and_survives_torn_lines(tmp_path: Path) -> None:
    """A killed build leaves half a line at most."""
    build(tmp_path, core=2.0)
    with (tmp_path / ".rpa/timings.jsonl").open("a") as stream:
        stream.write('{"when": "2026-01-01", "ima\n[]\n{"image": 1}\n')
    build(tmp_path, core=3.0)
    assert [(one.image, one.key, one.seconds) for one in timings.history(tmp_path)] == [
        ("base", "0123456789ab", 2.0),
        ("base", "0123456789ab", 3.0),
    ]
    assert timings.history(tmp_path / "elsewhere") == []


@pytest.mark.requirement("R4.8")
@pytest.mark.parametrize(
    ("earlier", "last", "slower"),
    [
        ([2.0, 2.1, 1.9, 2.0], 2.2, False),  # as ever
        ([2.0, 2.1, 1.9, 2.0], 4.0, True),
        ([1.0, 5.0, 2.0, 6.0, 1.5], 7.0, False),  # it was always like that
        ([2.0, 2.0, 2.0], 9.0, False),  # too few to say
        ([0.02, 0.02, 0.02, 0.02], 0.2, False),  # ten times as long, and nobody cares
        ([20.0, 20.0, 20.0, 20.0], 24.0, False),
        ([20.0, 20.0, 20.0, 20.0], 26.0, True),
    ],
)
def test_slower_is_what_earlier_runs_of_the_step_do_not_explain(
    tmp_path: Path, earlier: list[float], last: float, slower: bool
) -> None:
    """Beyond the usual spread, a quarter, and a third of a second."""
    for seconds in [*earlier, last]:
        build(tmp_path, core=seconds)
    (timing,) = timings.report(timings.history(tmp_path))
    assert bool(timing.slower) is slower
    assert timing.last_s == last


@pytest.mark.requirement("R4.8")
def test_cached_steps_count_for_nothing(tmp_path: Path) -> None:
    """A step is compared with its own runs; a build that took everything from the cache took no time."""
    for _ in range(5):
        build(tmp_path, cached=True, core=0.0)
    build(tmp_path, core=3.0)
    (timing,) = timings.report(timings.history(tmp_path))
    assert timing.slower == ()
    assert timing.costs == (("core", 3.0, 1),)


@pytest.mark.requirement("R4.8")
def test_the_report_names_what_cost_most(tmp_path: Path) -> None:
    """In all, not in one run."""
    for _ in range(6):
        build(tmp_path, core=2.0, copy=0.1)
    build(tmp_path, core=5.0, packages=4.0)
    text = timings.text(tmp_path)
    assert "base:production" in text
    assert "slower: core: 5.0s, usually 2.0s" in text
    assert text.index("x 7   core") < text.index("x 1   packages") < text.index("x 6   copy")
    assert "build.selective" in timings.text(tmp_path / "elsewhere")
