"""What a worker process says, as the run of a deployment takes it over."""

from __future__ import annotations

import json
import logging

import pytest

from rpa_flows.deployments.lines import Line, Said

pytestmark = pytest.mark.requirement("R2.3")


def _json(level: str, message: str, **more: object) -> str:
    return json.dumps({"log.level": level, "message": message, **more}) + "\n"


def test_json_lines_keep_their_level_and_others_are_warnings() -> None:
    """Level and text; a stack trace below the text; empty lines are none."""
    said = Said()
    assert said.hear(_json("info", "started")) == Line(level=logging.INFO, text="started")
    assert said.hear(_json("critical", "no")) == Line(level=logging.CRITICAL, text="no")
    traced = said.hear(_json("error", "failed", **{"error.stack_trace": "Traceback"}))
    assert traced == Line(level=logging.ERROR, text="failed\nTraceback")
    assert said.hear("Traceback (most recent call last):\n") == Line(
        level=logging.WARNING, text="Traceback (most recent call last):"
    )
    assert said.hear("\n") is None


@pytest.mark.parametrize("text", ['{"half": ', '{"no": "message"}', "[1]", '{"log.level": "loud", "message": "m"}'])
def test_whatever_is_written_is_shown(text: str) -> None:
    """Broken JSON, other JSON, an unknown level: nothing is lost, nothing raises."""
    line = Said().hear(text)
    assert line is not None
    assert line.text in (text.strip(), "m")


def test_the_counts_of_all_lives_are_added_up() -> None:
    """A worker says what it did when it ends; after a changed setting it lives again in the same process."""
    said = Said()
    for done in (3, 4):
        said.hear(_json("info", "drained", **{"event.action": "worker.stopped", "records.done": done}))
    said.hear(_json("info", "other", **{"event.action": "worker.empty", "records.done": 9}))
    assert said.counts == {"done": 7}


def test_the_cause_is_what_it_wrote_for_people_else_its_last_error() -> None:
    """Plain text at the end explains most; at most 2,000 characters of it."""
    said = Said()
    assert said.cause() == "it said nothing"
    said.hear(_json("error", "first"))
    said.hear(_json("critical", "the database refuses"))
    said.hear(_json("info", "going"))
    assert said.cause() == "the database refuses"
    said.hear("rpa: the database refuses  [STO001]")
    assert said.cause() == "rpa: the database refuses  [STO001]"
    said.hear("x" * 5000)
    assert len(said.cause()) == 2000
