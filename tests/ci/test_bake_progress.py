"""What the builder reports, as steps, lines for a person, and the reason of a failure."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from ci.images.progress import Progress


def event(**parts: Any) -> list[str]:
    return [f"{line}\n" for line in json.dumps(parts, indent=2).split("\n")]


def vertex(digest: str, name: str, began: int = 0, ended: int | None = None, **more: Any) -> dict[str, Any]:
    found = {"digest": digest, "name": name, "started": f"2026-01-01T00:00:{began:02}.5Z", **more}
    return found | ({} if ended is None else {"completed": f"2026-01-01T00:00:{ended:02}.500000001Z"})


def fed(*events: list[str], images: tuple[str, ...] = ("base", "flow"), out: io.StringIO | None = None) -> Progress:
    progress = Progress(images, out)
    for lines in events:
        for line in lines:
            progress.feed(line)
    return progress


@pytest.mark.requirement("R4.8")
def test_steps_have_times_and_belong_to_the_first_image_that_has_them() -> None:
    """A parent's step is announced again for each child; the builder's housekeeping is no step."""
    progress = fed(
        event(vertexes=[vertex("1", "[base internal] load build context", 0, 1)]),
        event(vertexes=[vertex("2", "[base core 2/2] RUN a\n  b", 1)]),
        event(vertexes=[vertex("2", "[flow core 2/2] RUN a\n  b", 1, 4)]),
        event(
            vertexes=[
                vertex("3", "[flow loaded 1/2] COPY x y", 4, 5),
                vertex("4", "[flow x 1/1] RUN", 0, 0, cached=True),
            ]
        ),
        event(vertexes=[vertex("5", "[flow] exporting to image", 5, 6)]),
    )
    assert [(one.image, one.name, one.seconds, one.cached) for one in progress.steps()] == [
        ("flow", "x 1 RUN", 0.0, True),
        ("base", "core 2 RUN a b", 3.0, False),
        ("flow", "loaded 1 COPY x y", 1.0, False),
        ("flow", "exporting to image", 1.0, False),
    ]


@pytest.mark.requirement("R4.8")
def test_events_may_stand_on_one_line_or_many() -> None:
    """Newer builders write one line for each."""
    one = json.dumps({"vertexes": [vertex("1", "[core 1/1] RUN {", 0, 2)]})
    progress = fed([one + "\n"], event(vertexes=[vertex("2", "[core 2/2] RUN }", 2, 3)]), images=("base",))
    assert [(step.image, step.seconds) for step in progress.steps()] == [("base", 2.0), ("base", 1.0)]


@pytest.mark.requirement("R4.8")
def test_a_person_sees_each_step_that_ran_once() -> None:
    """No cached one, no housekeeping."""
    shown = io.StringIO()
    fed(
        event(vertexes=[vertex("1", "[base core 2/2] RUN a", 0, 3)]),
        event(vertexes=[vertex("1", "[flow core 2/2] RUN a", 0, 3)]),
        event(vertexes=[vertex("2", "[base core 1/2] COPY", 0, 0, cached=True)]),
        event(vertexes=[vertex("3", "[internal] load metadata", 0, 1)]),
        out=shown,
    )
    assert shown.getvalue() == "    3.0s base: core 2 RUN a\n"


@pytest.mark.requirement("R4.8")
def test_a_failure_is_the_first_step_that_failed_with_its_last_lines() -> None:
    """Not one of those that were only stopped with it."""
    text = "".join(f"line {number}\n" for number in range(100)) + "ModuleNotFoundError: no module\n"
    progress = fed(
        event(vertexes=[vertex("1", "[flow loaded 2/2] RUN load", 0)]),
        event(logs=[{"vertex": "1", "data": base64.b64encode(text.encode()).decode()}]),
        event(vertexes=[vertex("2", "[base core 2/2] RUN a", 0, 1, error="context canceled")]),
        event(vertexes=[vertex("1", "[flow loaded 2/2] RUN load", 0, 2, error="exit code: 1")]),
        ["Dockerfile:3\n", "ERROR: failed to solve\n"],
    )
    failure = progress.failure()
    assert failure.step == "flow: loaded 2 RUN load"
    assert failure.log[-1] == "ModuleNotFoundError: no module"
    assert len(failure.log) == 30
    assert "ERROR: failed to solve" in failure.said
    assert [step.name for step in progress.steps()] == [], "what failed or was stopped is not timed"


@pytest.mark.requirement("R4.8")
def test_what_the_builder_says_before_any_step_is_the_reason() -> None:
    """A flag that it does not know, an engine that is away."""
    failure = fed(["unknown flag: --progress\n", "\n"]).failure()
    assert (failure.step, failure.log, failure.said) == ("", (), ("unknown flag: --progress",))
