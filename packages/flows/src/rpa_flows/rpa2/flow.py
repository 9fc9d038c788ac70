"""The flow value of rpa2 and its handler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, SetAside
from rpa_flows.codebook.load import check_codebook, codebook_files, load_codebook
from rpa_flows.codebook.scoring import Scorer, compile_scorer
from rpa_flows.codebook.validate import Validator, compile_validator
from rpa_flows.rpa2.settings import Rpa2Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    survey: str
    score: Scorer
    validate: Validator


@contextmanager
def open_scoring(context: OpenContext) -> Iterator[_Scoring]:
    """Compile the codebook. Raises ConfigError."""
    settings: Rpa2Settings = context.settings
    book = load_codebook(settings.codebook)
    yield _Scoring(survey=book.name, score=compile_scorer(book), validate=compile_validator(book))


def score(records: Sequence[Record], context: FlowContext) -> list[Outcome]:
    """{"survey", "key", "answers"} -> {"survey", "key", "items", "scales", "distances", "nearest", ...}."""
    this: _Scoring = context.resources
    survey, score_answers = this.survey, this.score
    outcomes: list[Outcome] = []
    for record in records:
        try:
            payload = record.payload
            if payload["survey"] != survey:
                outcomes.append(_of_another_survey(payload["survey"], survey))
                continue
            scores = score_answers(payload["answers"])
            outcomes.append(Done({"survey": survey, "key": payload["key"], **scores}))
        except (KeyError, TypeError, ValueError):
            outcomes.append(_explained(record, this))
    return outcomes


def _of_another_survey(found: Any, survey: str) -> SetAside:
    return SetAside((f"a response of survey {found!r}, but this worker's codebook is of {survey!r}",))


def _explained(record: Record, this: _Scoring) -> SetAside:
    """Every reason why a response could not be scored; only for those, so it may take its time."""
    try:
        payload = record.payload
    except orjson.JSONDecodeError as error:
        return SetAside((f"not JSON: {error}",))
    if not isinstance(payload, dict):
        return SetAside(("not an object with survey, key and answers, as rpa1 makes it",))
    absent = [name for name in ("survey", "key", "answers") if name not in payload]
    if absent:
        return SetAside(tuple(f"{name}: missing; send raw responses to rpa1" for name in absent))
    reasons = this.validate(payload["answers"]).reasons
    return SetAside(reasons or ("answers: not in the form rpa1 gives them; send raw responses to rpa1",))


FLOW = Flow(
    name="rpa2",
    handle=score,
    batch=True,
    next_flow="rpa3",
    open=open_scoring,
    settings=Rpa2Settings,
    files=codebook_files,
    validate=check_codebook,
)
